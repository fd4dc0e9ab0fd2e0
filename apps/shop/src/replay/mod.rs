//! Real orders from a file: CSV lines become invoices, invoices become requests to the shop.
//! May not know the services' databases.
//!
//! The file has the columns of the Online Retail data set (see [`COLUMNS`]). A physical line is a
//! record: a quoted field may hold commas but no line end, so that an unclosed quote costs its
//! own line and not the rest of the file.

mod invoice;
mod line;
mod lines;

pub use invoice::{Invoice, Invoices, ReplayError, Tally, check};
pub use line::{COLUMNS, InvoiceNumber, Line, Reason};
