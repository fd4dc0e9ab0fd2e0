//! The stock service: holds pieces for orders, lets go of them, takes pieces back. May not know
//! prices, payments, or how an order stands but from events.

mod desk;

use tidemill::{Data, Fail, Handler as _, Reply, Router, State};

use crate::database::{DatabaseError, Place};
use crate::dice::mix;
use crate::events::{
    Answer, Followed, GetStock, Heard, ListStock, OrderCancelled, OrderCreated, OrderReturned,
    OrderStatus, OrderUpdated, PriceChanged, ProductRemoved, SetStock, Shelf, Shelves,
    StockFollowed, StockHeard, StockOrdered, StockRefused, StockReleased, StockReserved,
};
use crate::inbox::Input;
use crate::service::{self, Handled, Service, Told, emitted, patient};

pub mod audit;

/// The name of its group and of its database.
pub const NAME: &str = "stock";

emitted! {
    StockOut {
        Reserved(StockReserved),
        Refused(StockRefused),
        Released(StockReleased),
        Ordered(StockOrdered),
    }
}

type Recorded = service::Recorded<StockOut, Answer<Shelf>>;
type Out<L> = Told<StockOut, L>;

/// What lies on the shelf when a product is first seen: between `least` and `most` pieces,
/// decided by the seed and the product alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Another seed, another distribution.
    pub seed: u64,
    /// Fewest pieces.
    pub least: i64,
    /// Most pieces; not below `least`.
    pub most: i64,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            seed: 1,
            least: 500,
            most: 5_000,
        }
    }
}

impl Opening {
    /// The opening stock of one product.
    #[must_use]
    pub fn of(self, product_id: i64) -> i64 {
        let width = self.most.saturating_sub(self.least).max(0).unsigned_abs() + 1;
        let draw = mix(self.seed ^ mix(product_id.cast_unsigned()));
        self.least + (draw % width).cast_signed()
    }
}

/// The service. Clones share its database.
#[derive(Clone)]
pub struct Stock {
    service: Service,
    opening: Opening,
}

impl Stock {
    /// Opens its database. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place, opening: Opening) -> Result<Self, DatabaseError> {
        Ok(Self {
            service: Service::open(place, NAME, desk::SCHEMA)?,
            opening,
        })
    }

    /// Its database and its counts.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Lets go of this handle and waits until its database is closed, which it is when the last
    /// handle is gone.
    pub async fn close(self) {
        self.service.close().await;
    }

    /// Its handlers, to be served as the group [`NAME`].
    pub fn router(&self) -> Router {
        Router::new()
            .source(service::source(NAME))
            .on(price_changed.id("price_changed").retry(patient()))
            .on(product_removed.id("product_removed").retry(patient()))
            .on(delivered.id("delivered").retry(patient()))
            .on(reserve.id("reserve").retry(patient()))
            .on(release.id("release").retry(patient()))
            .on(take_back.id("take_back").retry(patient()))
            .on(change.id("change").retry(patient()))
            .on(set.id("set").retry(patient()))
            .on(get.id("get"))
            .on(list.id("list"))
            .on(heard.id("heard"))
            .on(followed.id("followed"))
            .with_state(self.clone())
    }
}

async fn price_changed(
    State(stock): State<Stock>,
    input: Input,
    Data(changed): Data<PriceChanged>,
) -> Out<()> {
    let work = move |on: &_| {
        let product = (changed.product_id, &*changed.sku);
        desk::open(on, stock.opening, product, changed.opening)?;
        if let Some(batch) = changed.supply {
            desk::supply(on, changed.product_id, batch)?;
        }
        Ok(Recorded::nothing())
    };
    stock.service.told(input, work).await
}

/// The simulated supplier brings what was ordered.
async fn delivered(
    State(stock): State<Stock>,
    input: Input,
    Data(brought): Data<StockOrdered>,
) -> Out<()> {
    let work = move |on: &_| desk::delivered(on, &brought);
    stock.service.told(input, work).await
}

async fn product_removed(
    State(stock): State<Stock>,
    input: Input,
    Data(removed): Data<ProductRemoved>,
) -> Out<()> {
    let work = move |on: &_| desk::forget(on, removed.product_id);
    stock.service.told(input, work).await
}

async fn reserve(
    State(stock): State<Stock>,
    input: Input,
    Data(order): Data<OrderCreated>,
) -> Out<(StockReserved, StockRefused, StockOrdered)> {
    let opening = stock.opening;
    let work = move |on: &_| desk::reserve(on, opening, order.order_id, &order.products);
    stock.service.told(input, work).await
}

async fn release(
    State(stock): State<Stock>,
    input: Input,
    Data(order): Data<OrderCancelled>,
) -> Out<(StockReleased,)> {
    let work = move |on: &_| desk::release(on, order.order_id);
    stock.service.told(input, work).await
}

async fn take_back(
    State(stock): State<Stock>,
    input: Input,
    Data(credit): Data<OrderReturned>,
) -> Out<(StockReleased,)> {
    let opening = stock.opening;
    let work = move |on: &_| desk::take_back(on, opening, credit.order_id, &credit.products);
    stock.service.told(input, work).await
}

async fn change(
    State(stock): State<Stock>,
    input: Input,
    Data(order): Data<OrderUpdated>,
) -> Out<(StockReserved, StockRefused, StockOrdered)> {
    if order.revision == 0 || order.status != OrderStatus::PendingPayment {
        // Its pieces are as they were: nothing to keep.
        return stock.service.nothing();
    }
    let opening = stock.opening;
    let work = move |on: &_| desk::change(on, opening, &order);
    stock.service.told(input, work).await
}

async fn set(
    State(stock): State<Stock>,
    input: Input,
    Data(asked): Data<SetStock>,
) -> Handled<StockOut, (), Answer<Shelf>> {
    let work = move |on: &_| Ok(Recorded::answer(desk::set(on, &asked)?));
    stock.service.once(input, work).await
}

async fn get(
    State(stock): State<Stock>,
    Data(asked): Data<GetStock>,
) -> Result<Reply<Shelves>, Fail> {
    let found = move |on: &_| desk::show(on, asked.product_id);
    let shelves = stock.service.read(found).await?.into_iter().collect();
    Ok(Reply(Shelves { shelves }))
}

async fn list(
    State(stock): State<Stock>,
    Data(asked): Data<ListStock>,
) -> Result<Reply<Shelves>, Fail> {
    let found = move |on: &_| desk::list(on, asked.after);
    Ok(Reply(stock.service.read(found).await?))
}

async fn heard(Data(asked): Data<StockHeard>) -> Reply<Heard> {
    Reply(Heard {
        product_id: asked.product_id,
    })
}

async fn followed(Data(asked): Data<StockFollowed>) -> Reply<Followed> {
    Reply(Followed { id: asked.order_id })
}
