//! The cart service: what each user wants and has not bought yet. Keeps its own copy of the
//! prices. May not know what is in stock, or how an order stands but from events.

mod desk;

use tidemill::{Data, Fail, Handler as _, Reply, Router, State};

use crate::database::{DatabaseError, Place};
use crate::events::{
    AddToCart, Answer, Cart as CartView, CartChanged, CartFollowed, CartHeard, Followed, GetCart,
    Heard, OrderPaid, PriceChanged, ProductRemoved, RemoveFromCart,
};
use crate::inbox::Input;
use crate::service::{self, Handled, Service, Told, emitted, patient};

/// The name of its group and of its database.
pub const NAME: &str = "cart";

emitted! {
    CartOut {
        Changed(CartChanged),
    }
}

type Recorded = service::Recorded<CartOut, Answer<CartView>>;
type Out<L> = Handled<CartOut, L, Answer<CartView>>;

/// The service. Clones share its database.
#[derive(Clone)]
pub struct Cart {
    service: Service,
}

impl Cart {
    /// Opens its database. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place) -> Result<Self, DatabaseError> {
        Ok(Self {
            service: Service::open(place, NAME, desk::SCHEMA)?,
        })
    }

    /// Its database and its counts.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its handlers, to be served as the group [`NAME`].
    pub fn router(&self) -> Router {
        Router::new()
            .source(service::source(NAME))
            .on(add.id("add").retry(patient()))
            .on(remove.id("remove").retry(patient()))
            .on(price_changed.id("price_changed").retry(patient()))
            .on(product_removed.id("product_removed").retry(patient()))
            .on(paid.id("paid").retry(patient()))
            .on(get.id("get"))
            .on(heard.id("heard"))
            .on(followed.id("followed"))
            .with_state(self.clone())
    }
}

async fn add(
    State(cart): State<Cart>,
    input: Input,
    Data(request): Data<AddToCart>,
) -> Out<(CartChanged,)> {
    let work = move |on: &_| desk::add(on, &request);
    cart.service.once(input, work).await
}

async fn remove(
    State(cart): State<Cart>,
    input: Input,
    Data(request): Data<RemoveFromCart>,
) -> Out<(CartChanged,)> {
    let work = move |on: &_| desk::remove(on, &request);
    cart.service.once(input, work).await
}

async fn price_changed(
    State(cart): State<Cart>,
    input: Input,
    Data(changed): Data<PriceChanged>,
) -> Told<CartOut, ()> {
    let work = move |on: &_| {
        desk::price(on, &changed)?;
        Ok(Recorded::nothing())
    };
    cart.service.told(input, work).await
}

async fn product_removed(
    State(cart): State<Cart>,
    input: Input,
    Data(removed): Data<ProductRemoved>,
) -> Told<CartOut, ()> {
    let work = move |on: &_| {
        desk::forget(on, removed.product_id)?;
        Ok(Recorded::nothing())
    };
    cart.service.told(input, work).await
}

/// What was paid for is wanted no more.
async fn paid(
    State(cart): State<Cart>,
    input: Input,
    Data(paid): Data<OrderPaid>,
) -> Told<CartOut, (CartChanged,)> {
    let work = move |on: &_| desk::bought(on, &paid);
    cart.service.told(input, work).await
}

async fn get(
    State(cart): State<Cart>,
    Data(asked): Data<GetCart>,
) -> Result<Reply<CartView>, Fail> {
    let found = move |on: &_| desk::view(on, asked.user_id);
    Ok(Reply(cart.service.read(found).await?))
}

async fn heard(Data(asked): Data<CartHeard>) -> Reply<Heard> {
    Reply(Heard {
        product_id: asked.product_id,
    })
}

async fn followed(Data(asked): Data<CartFollowed>) -> Reply<Followed> {
    Reply(Followed { id: asked.order_id })
}
