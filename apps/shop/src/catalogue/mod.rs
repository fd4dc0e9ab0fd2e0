//! The catalogue: which products are sold, what they are called and what they cost. Tells every
//! new price, and learns of those that come with a file. May not know what is in stock, in carts
//! or ordered.

mod desk;

use std::collections::BTreeSet;

use tidemill::{Data, Fail, Handler as _, Reply, Router, State};

use crate::database::{DatabaseError, Place};
use crate::events::{
    Answer, CreateProduct, GetProduct, ListProducts, PriceChanged, Product, ProductList,
    ProductRemoved, RemoveProduct, UpdateProduct,
};
use crate::inbox::Input;
use crate::service::{self, Handled, Service, Told, emitted, patient};

/// The name of its group and of its database.
pub const NAME: &str = "catalogue";

emitted! {
    CatalogueOut {
        Price(PriceChanged),
        Removed(ProductRemoved),
    }
}

type Recorded = service::Recorded<CatalogueOut, Answer<Product>>;
type Out<L> = Handled<CatalogueOut, L, Answer<Product>>;

/// The service. Clones share its database.
#[derive(Clone)]
pub struct Catalogue {
    service: Service,
}

impl Catalogue {
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
            .on(create.id("create").retry(patient()))
            .on(update.id("update").retry(patient()))
            .on(remove.id("remove").retry(patient()))
            .on(price_changed.id("price_changed").retry(patient()))
            .on(get.id("get"))
            .on(list.id("list"))
            .with_state(self.clone())
    }
}

/// The ids of the products up to this one that a catalogue has ever heard of.
///
/// # Errors
/// See [`DatabaseError`].
pub(crate) async fn known_through(
    catalogue: &Service,
    last: i64,
) -> Result<BTreeSet<i64>, DatabaseError> {
    catalogue
        .read(move |on| desk::known_through(on, last))
        .await
}

async fn create(
    State(catalogue): State<Catalogue>,
    input: Input,
    Data(request): Data<CreateProduct>,
) -> Out<(PriceChanged,)> {
    let work = move |on: &_| desk::create(on, request);
    catalogue.service.once(input, work).await
}

async fn update(
    State(catalogue): State<Catalogue>,
    input: Input,
    Data(request): Data<UpdateProduct>,
) -> Out<(PriceChanged,)> {
    let work = move |on: &_| desk::update(on, request);
    catalogue.service.once(input, work).await
}

async fn remove(
    State(catalogue): State<Catalogue>,
    input: Input,
    Data(request): Data<RemoveProduct>,
) -> Out<(ProductRemoved,)> {
    let work = move |on: &_| desk::remove(on, request.product_id);
    catalogue.service.once(input, work).await
}

/// A price that came with a file or with generated orders; its own come back as well.
async fn price_changed(
    State(catalogue): State<Catalogue>,
    input: Input,
    Data(changed): Data<PriceChanged>,
) -> Told<CatalogueOut, ()> {
    if input.source == service::source(NAME).as_str() {
        return catalogue.service.nothing();
    }
    let work = move |on: &_| {
        desk::learn(on, &changed)?;
        Ok(Recorded::nothing())
    };
    catalogue.service.told(input, work).await
}

// Questions change nothing, so they need no inbox.

async fn get(
    State(catalogue): State<Catalogue>,
    Data(asked): Data<GetProduct>,
) -> Result<Reply<ProductList>, Fail> {
    let found = move |on: &_| desk::find(on, asked.product_id);
    let products = catalogue.service.read(found).await?.into_iter().collect();
    Ok(Reply(ProductList { products }))
}

async fn list(
    State(catalogue): State<Catalogue>,
    Data(asked): Data<ListProducts>,
) -> Result<Reply<ProductList>, Fail> {
    let found = move |on: &_| desk::list(on, asked.after);
    Ok(Reply(catalogue.service.read(found).await?))
}
