//! The table of doors: which handler takes a method of a path, and what is said of it. Whoever
//! gives a path to its handlers describes it in the same call, so the router and the OpenAPI
//! document cannot differ in what there is.
//!
//! This room may not know any single door.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter};

use super::openapi::{Operation, Paths};
use super::problem::Problem;
use crate::app::App;

/// The methods of one path.
#[derive(Default)]
pub(crate) struct Methods {
    router: MethodRouter<Arc<App>, Infallible>,
    operations: Vec<Operation>,
}

impl Methods {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `GET`, and `HEAD` with it.
    pub(crate) fn get<H, T>(self, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::GET, MethodFilter::GET, handler, operation)
    }

    /// `POST`.
    pub(crate) fn post<H, T>(self, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::POST, MethodFilter::POST, handler, operation)
    }

    /// `PATCH`.
    pub(crate) fn patch<H, T>(self, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::PATCH, MethodFilter::PATCH, handler, operation)
    }

    /// `DELETE`.
    pub(crate) fn delete<H, T>(self, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::DELETE, MethodFilter::DELETE, handler, operation)
    }

    fn with<H, T>(
        mut self,
        method: Method,
        filter: MethodFilter,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.router = self.router.on(filter, handler);
        self.operations.push(Operation {
            method,
            ..operation
        });
        self
    }

    /// The methods, as a header of answers names them.
    fn allowed(&self) -> String {
        let mut names: Vec<&str> = self.operations.iter().map(|o| o.method.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

/// All paths.
#[derive(Default)]
pub(crate) struct Doors {
    router: Router<Arc<App>>,
    paths: Paths,
}

impl Doors {
    /// One more path. Other methods than its own are answered with a problem document.
    pub(crate) fn door(mut self, path: &str, methods: Methods) -> Self {
        let allowed = methods.allowed();
        let router = methods.router.fallback(move || {
            let problem = Problem::method(&allowed);
            std::future::ready(problem)
        });
        self.router = self.router.route(path, router);
        self.paths.push((path.to_owned(), methods.operations));
        self
    }

    /// The paths of a group of doors.
    pub(crate) fn with(self, add: impl FnOnce(Self) -> Self) -> Self {
        add(self)
    }

    /// The router of all, and what is said of each path, in the order in which they were given.
    pub(crate) fn into_parts(self) -> (Router<Arc<App>>, Paths) {
        (self.router, self.paths)
    }
}
