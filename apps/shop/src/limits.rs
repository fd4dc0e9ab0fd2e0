//! Every bound of the shop, in one place. Knows no type of it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Highest price of one piece, in pence (a million pounds).
pub const PRICE_MAX_PENCE: i64 = 100_000_000;

/// Most pieces of one product on one line.
pub const QUANTITY_MAX: i64 = 1_000_000;

/// Most lines of one order. With the two bounds above an order's total fits an `i64`.
pub const ORDER_LINES_MAX: usize = 10_000;

/// Highest invoice number: nine digits. Orders that the shop numbers itself begin above.
pub const INVOICE_NUMBER_MAX: i64 = 999_999_999;

/// The first id of an order that came without one (through HTTP).
pub const OWN_ORDER_ID_FIRST: i64 = 1_000_000_000;

/// The first id of an order of the generated traffic.
pub const TRAFFIC_ORDER_ID_FIRST: i64 = 2_000_000_000;

/// The products that are always there: their ids are 1 to this one.
pub const SEEDS_MAX: i64 = 10;

/// The first id of a product that was made through HTTP. Files' and generated ones are below.
pub const OWN_PRODUCT_ID_FIRST: i64 = 1_000_000;

/// The first version of a price that was set through HTTP on a product of a file, so that both
/// count on without each other.
pub const OWN_VERSION_FIRST: i64 = 1_000_000_000;

/// The first id of a user who registered. Files' and generated ones are below.
pub const OWN_USER_ID_FIRST: i64 = 1_000_000_000;

/// Longest name or stock code of a product in bytes.
pub const NAME_MAX_BYTES: usize = 256;

/// Longest name of a user in bytes.
pub const USER_NAME_MAX_BYTES: usize = 64;

/// A password's bytes. How good one has to be is for whoever runs the shop to say.
pub const PASSWORD_BYTES: RangeInclusive<usize> = 1..=256;

/// Hashes of passwords that the door makes at once; each takes 19 MiB.
pub const HASHES_MAX: usize = 2;

/// Sessions of one user at once; another login ends the oldest.
pub const SESSIONS_MAX: i64 = 10;

/// Most different products in a cart.
pub const CART_LINES_MAX: i64 = 500;

/// Longest line of a replayed file in bytes, its end included.
pub const CSV_LINE_MAX_BYTES: usize = 16 * 1024;

/// Where a replayed line that does not end is given up, and its file with it, in bytes.
pub const CSV_LINE_END_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Longest field of a replayed line in bytes.
pub const CSV_FIELD_MAX_BYTES: usize = 512;

/// Years of an invoice; outside of them a date is a slip.
pub const YEARS: RangeInclusive<i16> = 1900..=2199;

/// Longest piece of a rejected line that is copied into the reject file, in bytes.
pub const REJECT_TEXT_MAX_BYTES: usize = 256;

/// Longest text in the place of an invoice number that is counted as one, in bytes.
pub const INVOICE_TEXT_MAX_BYTES: usize = 32;

/// Changed invoices of a file that are named; all are counted.
pub const CHANGED_MAX: usize = 5;

/// Most invoices of one file.
pub const INVOICES_MAX: usize = 5_000_000;

/// Inputs that an inbox remembers. Far more than a group has in flight at any time.
pub const INBOX_ROWS_MAX: i64 = 1_000_000;

/// Inputs that wait for an inbox; more is back pressure.
pub const INBOX_QUEUE_MAX: usize = 1024;

/// Inputs that share one commit of an inbox's database.
pub const INBOX_COMMIT_MAX: usize = 256;

/// Most orders or products in one answer.
pub const LIST_MAX: i64 = 1000;

/// Handlers of one service that run at once. Each waits for the commit of a database that many
/// share, so more of them make the commits larger.
pub const HANDLERS_MAX: usize = 128;

/// Most events read from a topic at once.
pub const FETCH_MAX_EVENTS: usize = 1000;

/// Most bytes read from a topic at once.
pub const FETCH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Orders whose newest news the HTTP door remembers.
pub const HEARD_MAX: usize = 4096;

/// Events about orders, of each partition, that it reads again when it is started.
pub const HEARD_EVENTS_MAX: u64 = 16_384;

/// Largest body of an HTTP request in bytes.
pub const HTTP_BODY_MAX_BYTES: usize = 1024 * 1024;

/// Longest `Idempotency-Key` of an HTTP request in bytes.
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 128;

/// Orders that the demo's source lets be under way at once.
pub const FLIGHT_MAX: usize = 1000;

/// Times that a message of the Kafka topics is tried again which is ahead of what it is about.
pub const EARLY_TRIES_MAX: u32 = 12;

/// Types of messages without a meaning that are told; all are counted.
pub const STRANGE_TYPES_MAX: usize = 64;

/// Longest piece of such a type that is told, in characters.
pub const STRANGE_TYPE_MAX_CHARS: usize = 64;

/// How often the data of a message of the Kafka topics may be wrapped in `data` again.
pub const DATA_NESTED_MAX: usize = 2;

/// Invoices, or generated orders, that are published together.
pub const SOURCE_BATCH_MAX: usize = 64;

const _: () = {
    let line = PRICE_MAX_PENCE as i128 * QUANTITY_MAX as i128;
    assert!(line * (ORDER_LINES_MAX as i128) < i64::MAX as i128);
    assert!(INVOICE_NUMBER_MAX < OWN_ORDER_ID_FIRST);
    assert!(OWN_ORDER_ID_FIRST < TRAFFIC_ORDER_ID_FIRST);
    assert!(CART_LINES_MAX as usize <= ORDER_LINES_MAX);
    assert!(CSV_FIELD_MAX_BYTES < CSV_LINE_MAX_BYTES);
};

/// How long until a bus is read again that could not be read.
pub const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);
