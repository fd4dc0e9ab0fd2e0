//! One line of the file as typed values, or the reason why it makes no sense. Knows nothing of
//! the lines around it.

use std::fmt;

use jiff::civil::DateTime;

use crate::limits::{
    CSV_FIELD_MAX_BYTES, INVOICE_NUMBER_MAX, PRICE_MAX_PENCE, QUANTITY_MAX, YEARS,
};
use crate::money::{NotMoney, Pence};

/// The columns of the file, in their order.
pub const COLUMNS: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// The number of an invoice, and what kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InvoiceNumber {
    /// An order.
    Order(i64),
    /// A credit note: its number begins with C in the file.
    Credit(i64),
}

impl InvoiceNumber {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (credit, digits) = match text.strip_prefix('C') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = digits.parse().ok()?;
        let allowed = (1..=INVOICE_NUMBER_MAX).contains(&number);
        allowed.then_some(if credit {
            Self::Credit(number)
        } else {
            Self::Order(number)
        })
    }

    /// The id under which the shop keeps it: the number, negative for a credit note, so that
    /// C536379 never meets 536379.
    #[must_use]
    pub fn order_id(self) -> i64 {
        match self {
            Self::Order(number) => number,
            Self::Credit(number) => -number,
        }
    }

    /// Whether it is a credit note.
    #[must_use]
    pub fn is_credit(self) -> bool {
        matches!(self, Self::Credit(_))
    }
}

impl fmt::Display for InvoiceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(number) => write!(f, "{number}"),
            Self::Credit(number) => write!(f, "C{number}"),
        }
    }
}

/// A line that makes sense by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its invoice.
    pub invoice: InvoiceNumber,
    /// The stock code, as it stands in the file (upper and lower case are different codes).
    pub sku: String,
    /// The product's name; may be empty.
    pub name: String,
    /// Pieces, 1 or more; also on a credit note, where the file has them negative.
    pub quantity: i64,
    /// When.
    pub at: DateTime,
    /// The price of one piece, more than nothing.
    pub price: Pence,
    /// Who; `None` is a guest.
    pub customer: Option<i64>,
}

/// Why a line is not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Longer than the bound.
    LineTooLong,
    /// Nothing but white space.
    Blank,
    /// A NUL byte in it.
    Nul,
    /// Not UTF-8.
    NotUtf8,
    /// A quoted field does not end on its line.
    OpenQuote,
    /// Not as many fields as there are columns.
    Fields(usize),
    /// A field is longer than the bound.
    FieldTooLong(&'static str),
    /// The invoice number is none.
    Invoice,
    /// No stock code.
    StockCode,
    /// Not a whole number in its bounds, or zero.
    Quantity,
    /// Less than nothing was sold.
    NegativeQuantity,
    /// A credit note that takes nothing back.
    PositiveCredit,
    /// Not month-day-year hour:minute.
    Date,
    /// Of that form, and not in the calendar or on the clock.
    NoSuchTime,
    /// Outside of [`YEARS`].
    Year,
    /// Not an amount of money in its bounds.
    Price(NotMoney),
    /// It cost nothing.
    ZeroPrice,
    /// It cost less than nothing.
    NegativePrice,
    /// The customer is no number.
    Customer,
    /// Another customer than the invoice's first line.
    OtherCustomer,
    /// The invoice ended earlier in the file.
    Scattered,
    /// The invoice has too many lines.
    TooManyLines,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::LineTooLong => "the line is too long",
            Self::Blank => "the line is blank",
            Self::Nul => "the line holds a NUL byte",
            Self::NotUtf8 => "not UTF-8",
            Self::OpenQuote => "a quoted field does not end on its line",
            Self::Fields(found) => {
                return write!(f, "{found} fields where {} belong", COLUMNS.len());
            }
            Self::FieldTooLong(column) => return write!(f, "{column} is too long"),
            Self::Invoice => "the invoice number is not 1 to 9 digits, with or without a C before",
            Self::StockCode => "no stock code",
            Self::Quantity => "the quantity is not a whole number, or zero, or too large",
            Self::NegativeQuantity => "negative quantity outside of a credit note",
            Self::PositiveCredit => "positive quantity on a credit note",
            Self::Date => "the date is not month-day-year hour:minute",
            Self::NoSuchTime => "there is no such day or time",
            Self::Year => {
                return write!(f, "the year is not {} to {}", YEARS.start(), YEARS.end());
            }
            Self::Price(why) => return write!(f, "the price is {why}"),
            Self::ZeroPrice => "zero price",
            Self::NegativePrice => "negative price",
            Self::Customer => "the customer is not a positive number",
            Self::OtherCustomer => "another customer than the lines before it of the same invoice",
            Self::Scattered => "its invoice ended earlier in the file",
            Self::TooManyLines => "its invoice has too many lines",
        };
        f.write_str(text)
    }
}

/// Reads the fields of one physical line.
///
/// # Errors
/// The reason, and the text of the invoice number where that much could be read.
pub(crate) fn parse(bytes: &[u8]) -> Result<Line, (Reason, Option<String>)> {
    if bytes.trim_ascii().is_empty() {
        return Err((Reason::Blank, None));
    }
    if bytes.contains(&0) {
        return Err((Reason::Nul, None));
    }
    let record = split(bytes).map_err(|reason| (reason, None))?;
    let invoice_text = record.get(0).unwrap_or("").trim();
    let fail = |reason| (reason, Some(invoice_text.to_owned()));
    if record.len() != COLUMNS.len() {
        return Err(fail(Reason::Fields(record.len())));
    }
    for (field, column) in record.iter().zip(COLUMNS) {
        if field.len() > CSV_FIELD_MAX_BYTES {
            let known = (column != "InvoiceNo").then(|| invoice_text.to_owned());
            return Err((Reason::FieldTooLong(column), known));
        }
    }
    let field = |at: usize| record.get(at).unwrap_or("").trim();
    let invoice = InvoiceNumber::parse(invoice_text).ok_or_else(|| fail(Reason::Invoice))?;
    let sku = field(1).to_owned();
    if sku.is_empty() {
        return Err(fail(Reason::StockCode));
    }
    let price = price(field(5)).map_err(fail)?;
    let quantity = quantity(field(3), invoice).map_err(fail)?;
    let at = date(field(4)).map_err(fail)?;
    let customer = customer(field(6)).map_err(fail)?;
    Ok(Line {
        invoice,
        sku,
        name: field(2).to_owned(),
        quantity,
        at,
        price,
        customer,
    })
}

fn split(bytes: &[u8]) -> Result<csv::StringRecord, Reason> {
    if bytes.iter().filter(|b| **b == b'"').count() % 2 == 1 {
        return Err(Reason::OpenQuote);
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(bytes.len().max(1))
        .from_reader(bytes);
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => Ok(record),
        Ok(false) => Err(Reason::Fields(0)),
        Err(_) => Err(Reason::NotUtf8),
    }
}

/// Month and day first, then the year with all its digits.
fn date(text: &str) -> Result<DateTime, Reason> {
    let digits = text.bytes().map(|b| {
        if b.is_ascii_digit() {
            '0'
        } else {
            char::from(b)
        }
    });
    let shape: String = digits.collect();
    match DateTime::strptime("%m-%d-%Y %H:%M", text) {
        Ok(at) if YEARS.contains(&at.year()) => Ok(at),
        Ok(_) => Err(Reason::Year),
        Err(_) if shape == "00-00-0000 00:00" => Err(Reason::NoSuchTime),
        Err(_) => Err(Reason::Date),
    }
}

fn price(text: &str) -> Result<Pence, Reason> {
    let price = Pence::parse_pounds(text).map_err(Reason::Price)?;
    match price.0 {
        0 => Err(Reason::ZeroPrice),
        ..0 => Err(Reason::NegativePrice),
        _ if price.0 > PRICE_MAX_PENCE => Err(Reason::Price(NotMoney::TooLarge)),
        _ => Ok(price),
    }
}

/// The pieces of a line, positive on a credit note too.
fn quantity(text: &str, invoice: InvoiceNumber) -> Result<i64, Reason> {
    let signed: i64 = text.parse().map_err(|_| Reason::Quantity)?;
    let size = signed.unsigned_abs();
    if size == 0 || size > QUANTITY_MAX.unsigned_abs() {
        return Err(Reason::Quantity);
    }
    match (invoice.is_credit(), signed < 0) {
        (true, false) => Err(Reason::PositiveCredit),
        (false, true) => Err(Reason::NegativeQuantity),
        _ => Ok(signed.abs()),
    }
}

fn customer(text: &str) -> Result<Option<i64>, Reason> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(id) if id > 0 => Ok(Some(id)),
        _ => Err(Reason::Customer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "536365,85123A,\"HEART, WHITE \",6,12-01-2010 08:26,2.55,17850,Utopia";

    #[test]
    fn a_good_line_is_read() {
        let line = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(line.invoice, InvoiceNumber::Order(536_365));
        assert_eq!(line.sku, "85123A");
        assert_eq!(line.name, "HEART, WHITE");
        assert_eq!((line.quantity, line.price), (6, Pence(255)));
        assert_eq!(line.at.to_string(), "2010-12-01T08:26:00");
        assert_eq!(line.customer, Some(17850));
    }

    #[test]
    fn a_guest_and_a_credit_note_are_read() {
        let guest = parse(b"7,A,n,1,01-31-2024 23:59,1,,X").unwrap();
        assert_eq!(guest.customer, None);
        let credit = parse(b"C7,D,Discount,-3,12-01-2010 09:41,27.5,14527,X").unwrap();
        assert_eq!(credit.invoice.order_id(), -7);
        assert_eq!(credit.quantity, 3);
        assert_eq!(credit.invoice.to_string(), "C7");
    }

    #[test]
    fn senseless_lines_have_their_reason() {
        let table: [(&[u8], Reason); 30] = [
            (b"", Reason::Blank),
            (b" \t", Reason::Blank),
            (b"1,A\0,n,1,01-31-2024 23:59,1,,X", Reason::Nul),
            (b"1,A,n,1,02-29-2023 23:59,1,,X", Reason::NoSuchTime),
            (b"1,A,n,1,01-31-2024 24:00,1,,X", Reason::NoSuchTime),
            (b"1,A,n,1,01-31-24 23:59,1,,X", Reason::Year),
            (b"1,A,n,1,01-31-9999 23:59,1,,X", Reason::Year),
            (b"1,A,n,1,,1,,X", Reason::Date),
            (b"1,A,n,1,01-31-2024 23:59 UTC,1,,X", Reason::Date),
            (b"1,A,n", Reason::Fields(3)),
            (b"1,A,n,1,01-31-2024 23:59,1,,X,more", Reason::Fields(9)),
            (b"1,A,\"n,1,01-31-2024 23:59,1,,X", Reason::OpenQuote),
            (b"1,A,\xff\xfe,1,01-31-2024 23:59,1,,X", Reason::NotUtf8),
            (b"A1,A,n,1,01-31-2024 23:59,1,,X", Reason::Invoice),
            (b"0,A,n,1,01-31-2024 23:59,1,,X", Reason::Invoice),
            (b"1234567890,A,n,1,01-31-2024 23:59,1,,X", Reason::Invoice),
            (b"1, ,n,1,01-31-2024 23:59,1,,X", Reason::StockCode),
            (b"1,A,n,1.5,01-31-2024 23:59,1,,X", Reason::Quantity),
            (b"1,A,n,0,01-31-2024 23:59,1,,X", Reason::Quantity),
            (b"1,A,n,1000001,01-31-2024 23:59,1,,X", Reason::Quantity),
            (
                b"1,A,n,-9223372036854775808,01-31-2024 23:59,1,,X",
                Reason::Quantity,
            ),
            (b"1,A,n,-1,01-31-2024 23:59,1,,X", Reason::NegativeQuantity),
            (b"C1,A,n,1,01-31-2024 23:59,1,,X", Reason::PositiveCredit),
            (b"1,A,n,1,13-31-2024 23:59,1,,X", Reason::NoSuchTime),
            (b"1,A,n,1,2024-01-31 23:59,1,,X", Reason::Date),
            (
                b"1,A,n,1,01-31-2024 23:59,x,,X",
                Reason::Price(NotMoney::Malformed),
            ),
            (b"1,A,n,1,01-31-2024 23:59,0,,X", Reason::ZeroPrice),
            (b"1,A,n,1,01-31-2024 23:59,-1,,X", Reason::NegativePrice),
            (
                b"1,A,n,1,01-31-2024 23:59,1000001,,X",
                Reason::Price(NotMoney::TooLarge),
            ),
            (b"1,A,n,1,01-31-2024 23:59,1,bob,X", Reason::Customer),
        ];
        for (bytes, reason) in table {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(parse(bytes).unwrap_err().0, reason, "{text}");
        }
    }

    #[test]
    fn an_oversized_field_is_named() {
        let name = "n".repeat(CSV_FIELD_MAX_BYTES + 1);
        let line = format!("1,A,{name},1,01-31-2024 23:59,1,,X");
        let error = parse(line.as_bytes()).unwrap_err();
        assert_eq!(
            error,
            (Reason::FieldTooLong("Description"), Some("1".into()))
        );
    }
}
