//! Files that were damaged in any way: each of their lines is accepted or refused, every sum
//! holds, and nothing panics.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_shop::replay::{COLUMNS, Invoices};

/// Knuth's MMIX generator; its high bits are the good ones.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        let (factor, term) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(factor).wrapping_add(term);
        (self.0 >> 33) as usize % bound
    }
}

/// Changes bytes, cuts pieces out, doubles pieces, and puts in what a CSV reader trips over.
fn damage(file: &mut Vec<u8>, random: &mut Random) {
    const PIECES: [&[u8]; 9] = [
        b"\"",
        b"\"\"",
        b"\n",
        b"\r\n",
        b",",
        b"\xff\xfe",
        b"-",
        b"99999999999999999999",
        b"\0",
    ];
    for _ in 0..=random.below(30) {
        let at = random.below(file.len());
        let to = (at + random.below(200)).min(file.len());
        match random.below(4) {
            0 => file[at] = random.below(256) as u8,
            1 => drop(file.drain(at..to)),
            2 => drop(file.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            _ => {
                let copy = file[at..to].to_vec();
                let place = random.below(file.len());
                drop(file.splice(place..place, copy));
            }
        }
        if file.is_empty() {
            file.push(b'x');
        }
    }
}

#[test]
fn every_line_of_a_damaged_file_is_accounted_for() {
    let header = format!("{}\n", COLUMNS.join(","));
    let good = include_bytes!("../data/orders.csv");
    let body = &good[header.len()..];
    let mut random = Random(7);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..500 {
        let mut file = body.to_vec();
        damage(&mut file, &mut random);
        let whole = [header.as_bytes(), &file].concat();
        let mut rejects = Vec::new();
        let mut invoices = Invoices::new(&whole[..], &mut rejects).unwrap();
        let mut lines = 0;
        while let Some(invoice) = invoices.next().unwrap() {
            lines += invoice.lines.len() as u64;
        }
        let tally = invoices.tally();
        drop(invoices);
        let ends = file.iter().filter(|b| **b == b'\n').count() as u64;
        let expected = ends + u64::from(!file.ends_with(b"\n"));
        assert_eq!(tally.lines, expected, "round {round}");
        assert_eq!(tally.lines, tally.accepted + tally.refused, "round {round}");
        assert_eq!(tally.accepted, lines, "round {round}");
        let kinds = tally.orders + tally.credit_notes + tally.empty_invoices;
        assert_eq!(tally.invoices, kinds, "round {round}");
        let rows = csv::Reader::from_reader(&rejects[..]).into_byte_records();
        assert_eq!(rows.count() as u64, tally.refused, "round {round}");
        accepted += tally.accepted;
        refused += tally.refused;
    }
    assert!(accepted > 2_000 && refused > 2_000, "{accepted} {refused}");
}
