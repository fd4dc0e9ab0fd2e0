//! A handler together with its name and bounds.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use tidemill_core::{Commit, Delivery, Order};
use tower::{Layer, Service};

use super::{Handler, Retry};
use crate::boxed::{ErasedLayer, Route, erase_layer};
use crate::message::BoxError;
use crate::outcome::Fail;

/// How a handler is named and bounded.
#[derive(Clone, Default)]
pub struct Settings {
    pub(crate) id: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) retry: Option<Retry>,
    pub(crate) needs: Option<Order>,
    pub(crate) timeout: Option<Duration>,
    /// Innermost first.
    pub(crate) layers: Vec<ErasedLayer>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("retry", &self.retry)
            .field("needs", &self.needs)
            .field("timeout", &self.timeout)
            .field("layers", &self.layers.len())
            .finish()
    }
}

/// A handler with a name or bounds of its own, made by the methods of [`Handler`].
pub struct Configured<H, T, S> {
    handler: H,
    settings: Settings,
    made_of: PhantomData<fn() -> (T, S)>,
}

impl<H, T, S> Configured<H, T, S> {
    pub(super) fn new(handler: H) -> Self
    where
        H: Handler<T, S>,
    {
        Self {
            settings: handler.settings(),
            handler,
            made_of: PhantomData,
        }
    }

    /// See [`Handler::id`].
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.settings.id = Some(id.into());
        self
    }

    /// See [`Handler::version`].
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.settings.version = Some(version.into());
        self
    }

    /// See [`Handler::retry`].
    #[must_use]
    pub fn retry(mut self, retry: impl Into<Retry>) -> Self {
        self.settings.retry = Some(retry.into());
        self
    }

    /// See [`Handler::needs`].
    #[must_use]
    pub fn needs(mut self, order: Order) -> Self {
        self.settings.needs = Some(order);
        self
    }

    /// See [`Handler::timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// See [`Handler::layer`].
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Delivery, Response = Commit> + Clone + Send + 'static,
        <L::Service as Service<Delivery>>::Error: Into<BoxError>,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
    {
        self.settings.layers.push(erase_layer(layer));
        self
    }
}

impl<H: Clone, T, S> Clone for Configured<H, T, S> {
    fn clone(&self) -> Self {
        Self {
            handler: self.handler.clone(),
            settings: self.settings.clone(),
            made_of: PhantomData,
        }
    }
}

impl<H, T, S> fmt::Debug for Configured<H, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured")
            .field("handler", &std::any::type_name::<H>())
            .field("settings", &self.settings)
            .finish()
    }
}

#[diagnostic::do_not_recommend]
impl<H, T, S> Handler<T, S> for Configured<H, T, S>
where
    H: Handler<T, S>,
    T: 'static,
    S: 'static,
{
    type Input = H::Input;
    type Output = H::Output;

    fn call(
        &self,
        delivery: Delivery,
        state: &S,
    ) -> impl Future<Output = Result<Self::Output, Fail>> + Send {
        self.handler.call(delivery, state)
    }

    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn name(&self) -> &'static str {
        self.handler.name()
    }
}
