//! Patterns over topic names and event types: `*` stands for any run of characters without a
//! dot, `**` for any run at all.
//!
//! Matching takes time in proportion to the two lengths multiplied, whatever the pattern, so a
//! pattern from outside cannot stall its host.

use std::fmt;

use thiserror::Error;

use crate::limits::PATTERN_MAX_BYTES;

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidPattern {
    /// Nothing at all.
    #[error("a pattern may not be empty")]
    Empty,
    /// Longer than [`PATTERN_MAX_BYTES`].
    #[error("a pattern has at most {PATTERN_MAX_BYTES} bytes")]
    TooLong,
    /// Three or more stars in a row mean nothing.
    #[error("a pattern has '*' or '**', not more stars in a row")]
    TooManyStars,
}

/// A checked pattern. A text without stars matches exactly itself.
///
/// ```
/// use tidemill_core::Pattern;
///
/// let pattern = Pattern::new("order.*")?;
/// assert!(pattern.matches("order.paid"));
/// assert!(!pattern.matches("order.paid.late"));
/// assert!(Pattern::new("order.**")?.matches("order.paid.late"));
/// # Ok::<(), tidemill_core::InvalidPattern>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
}

/// One step of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// This byte.
    Byte(u8),
    /// Any run without a dot.
    Star,
    /// Any run.
    Stars,
}

impl Step {
    /// Whether a run of this step may go over `byte`.
    fn runs_over(self, byte: u8) -> bool {
        match self {
            Self::Byte(_) => false,
            Self::Star => byte != b'.',
            Self::Stars => true,
        }
    }
}

/// The step of `pattern` at `at` and where the next one begins.
fn step(pattern: &[u8], at: usize) -> Option<(Step, usize)> {
    let byte = *pattern.get(at)?;
    if byte != b'*' {
        return Some((Step::Byte(byte), at + 1));
    }
    let rest = pattern.get(at..).unwrap_or_default();
    match rest.iter().take_while(|b| **b == b'*').count() {
        1 => Some((Step::Star, at + 1)),
        stars => Some((Step::Stars, at + stars)),
    }
}

impl Pattern {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`InvalidPattern`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > PATTERN_MAX_BYTES {
            return Err(InvalidPattern::TooLong);
        }
        if text.contains("***") {
            return Err(InvalidPattern::TooManyStars);
        }
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no star, and so matches one text only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.text.contains('*')
    }

    /// What stands before the first star; of two patterns the one with the longer prefix is the
    /// more special one.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        self.text.split('*').next().unwrap_or("")
    }

    /// Whether `name` matches. At most (length of the pattern) x (length of the name) steps,
    /// nothing allocated.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.text.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on when the text after the last run did not fit: (next step, run's end).
        // An earlier run of the same kind never has to be reconsidered.
        let mut star: Option<(usize, usize)> = None;
        let mut stars: Option<(usize, usize)> = None;
        loop {
            match (step(pattern, p), name.get(n)) {
                (None, None) => return true,
                (Some((Step::Byte(want), next)), Some(have)) if want == *have => {
                    (p, n) = (next, n + 1);
                    continue;
                }
                (Some((Step::Star, next)), _) => {
                    star = Some((next, n));
                    p = next;
                    continue;
                }
                (Some((Step::Stars, next)), _) => {
                    (star, stars) = (None, Some((next, n)));
                    p = next;
                    continue;
                }
                _ => {}
            }
            let longer = |run: Option<(usize, usize)>, kind: Step| {
                let (next, end) = run?;
                let byte = name.get(end)?;
                kind.runs_over(*byte).then_some((next, end + 1))
            };
            if let Some(run) = longer(star, Step::Star) {
                (star, (p, n)) = (Some(run), run);
            } else if let Some(run) = longer(stars, Step::Stars) {
                (star, stars, (p, n)) = (None, Some(run), run);
            } else {
                return false;
            }
        }
    }

    /// Whether some name matches both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Pattern) -> bool {
        let (a, b) = (self.text.as_bytes(), other.text.as_bytes());
        let width = b.len() + 1;
        let mut seen = vec![false; (a.len() + 1) * width];
        let mut waiting = vec![(0, 0)];
        while let Some((i, j)) = waiting.pop() {
            match seen.get_mut(i * width + j) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match (step(a, i), step(b, j)) {
                (None, None) => return true,
                (Some((Step::Byte(x), i2)), Some((Step::Byte(y), j2))) => {
                    if x == y {
                        waiting.push((i2, j2));
                    }
                }
                (x, y) => {
                    waiting.extend(run_against(x, y, i, j));
                    let swapped = run_against(y, x, j, i);
                    waiting.extend(swapped.map(|(j, i)| (i, j)));
                }
            }
        }
        false
    }
}

/// Where the pair (`i`, `j`) can go when the step `x` at `i` is a run: past the run, or over one
/// byte that `y` asks for.
fn run_against(
    x: Option<(Step, usize)>,
    y: Option<(Step, usize)>,
    i: usize,
    j: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let run = x.filter(|(step, _)| !matches!(step, Step::Byte(_)));
    let past = run.map(|(_, next)| (next, j));
    let over = run.and_then(|(run, _)| match y {
        Some((Step::Byte(byte), next)) if run.runs_over(byte) => Some((i, next)),
        _ => None,
    });
    past.into_iter().chain(over)
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_runs_and_only_two_cross_dots() {
        let cases = [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("*", "", true),
            ("*", "orders", true),
            ("*", "orders.eu", false),
            ("**", "orders.eu.north", true),
            ("order_*", "order_paid", true),
            ("order_*", "order_", true),
            ("order_*", "order_paid.v2", false),
            ("order_**", "order_paid.v2", true),
            ("*.eu", "orders.eu", true),
            ("*.eu", "a.b.eu", false),
            ("**.eu", "a.b.eu", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2.b3c", false),
            ("a**b*c", "a1.2b3.b4c", true),
            ("a**b*c", "a1.2b3.b4.c", false),
            ("*.*", "a.b", true),
            ("*.*", "ab", false),
            ("ä*", "äß", true),
        ];
        for (pattern, text, fits) in cases {
            let found = Pattern::new(pattern).unwrap().matches(text);
            assert_eq!(found, fits, "{pattern} against {text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Pattern::new(""), Err(InvalidPattern::Empty));
        assert_eq!(Pattern::new("a***"), Err(InvalidPattern::TooManyStars));
        let long = "x".repeat(PATTERN_MAX_BYTES + 1);
        assert_eq!(Pattern::new(&long), Err(InvalidPattern::TooLong));
    }

    #[test]
    fn matching_agrees_with_a_plain_recursion_on_every_short_text() {
        fn slow(p: &[u8], n: &[u8]) -> bool {
            match step(p, 0) {
                None => n.is_empty(),
                Some((Step::Byte(b), at)) => n.first() == Some(&b) && slow(&p[at..], &n[1..]),
                Some((run, at)) => {
                    slow(&p[at..], n)
                        || n.first().is_some_and(|b| run.runs_over(*b)) && slow(p, &n[1..])
                }
            }
        }
        let texts = |alphabet: &[u8], len: usize| -> Vec<String> {
            let mut all = vec![String::new()];
            let mut last = all.clone();
            for _ in 0..len {
                last = last
                    .iter()
                    .flat_map(|t| alphabet.iter().map(move |b| format!("{t}{}", *b as char)))
                    .collect();
                all.extend(last.clone());
            }
            all
        };
        let names = texts(b"ab.", 4);
        for text in texts(b"a*.b", 5) {
            let Ok(pattern) = Pattern::new(&text) else {
                continue;
            };
            for name in &names {
                let want = slow(text.as_bytes(), name.as_bytes());
                assert_eq!(pattern.matches(name), want, "{text} {name}");
            }
        }
    }

    #[test]
    fn patterns_overlap_when_a_name_fits_both() {
        let cases = [
            ("order_*", "order_**", true),
            ("order_*_a", "order_*_b", false),
            ("order_*", "*_paid", true),
            ("*", "a.b", false),
            ("**", "a.b", true),
            ("a.*", "*.b", true),
            ("a.*", "b.*", false),
            ("*x", "x*", true),
        ];
        for (a, b, fits) in cases {
            let [x, y] = [a, b].map(|text| Pattern::new(text).unwrap());
            assert_eq!(x.overlaps(&y), fits, "{a} {b}");
            assert_eq!(y.overlaps(&x), fits, "{b} {a}");
        }
    }
}
