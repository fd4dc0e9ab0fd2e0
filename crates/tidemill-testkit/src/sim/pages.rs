//! A file's bytes, in pages that copies share until one of them writes. May not know: what is
//! durable, what the bytes mean.

use std::sync::{Arc, OnceLock};

use crate::sim::random::mix;

/// Bytes that copies share or do not.
const PAGE_BYTES: usize = 4096;

#[derive(Debug)]
struct Page {
    bytes: [u8; PAGE_BYTES],
    /// A hash of the bytes, once somebody asked for it.
    hash: OnceLock<u64>,
}

impl Clone for Page {
    /// A copy is made to be changed, so it does not take the hash along.
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes,
            hash: OnceLock::new(),
        }
    }
}

impl Page {
    fn zeros() -> Arc<Self> {
        static ZEROS: OnceLock<Arc<Page>> = OnceLock::new();
        let zeros = || {
            Arc::new(Page {
                bytes: [0; PAGE_BYTES],
                hash: OnceLock::new(),
            })
        };
        ZEROS.get_or_init(zeros).clone()
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let (words, _) = self.bytes.as_chunks::<8>();
            words.iter().fold(0u64, |hash, word| {
                let word = u64::from_le_bytes(*word);
                // Zeros are most of a disk, and count by their place alone.
                mix_fast(hash.rotate_left(5) ^ word)
            })
        })
    }
}

/// Spreads a word over a hash, quicker than [`mix`].
fn mix_fast(word: u64) -> u64 {
    let product = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// The bytes of a file. Clones share their pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    len: usize,
    /// Enough for the length; what lies behind it in the last one is zeros.
    pages: Vec<Arc<Page>>,
}

impl Pages {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies from `position` on; answers how many bytes there were.
    pub(crate) fn read(&self, position: usize, buf: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(position).min(buf.len());
        let mut done = 0;
        while done < count {
            let at = position + done;
            let (page, inner) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let step = (PAGE_BYTES - inner).min(count - done);
            let from = self.pages.get(page).map(|page| &page.bytes);
            let from = from.and_then(|bytes| bytes.get(inner..inner + step));
            if let (Some(to), Some(from)) = (buf.get_mut(done..done + step), from) {
                to.copy_from_slice(from);
            }
            done += step;
        }
        count
    }

    /// Writes; what lies behind the end makes the file longer.
    pub(crate) fn write(&mut self, position: usize, bytes: &[u8]) {
        if position + bytes.len() > self.len {
            self.resize(position + bytes.len());
        }
        self.put(position, bytes);
    }

    /// Writes what lies within the length.
    pub(crate) fn put(&mut self, position: usize, bytes: &[u8]) {
        let count = self.len.saturating_sub(position).min(bytes.len());
        let mut done = 0;
        while done < count {
            let at = position + done;
            let (page, inner) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let step = (PAGE_BYTES - inner).min(count - done);
            let new = bytes.get(done..done + step).unwrap_or_default();
            done += step;
            let Some(page) = self.pages.get_mut(page) else {
                continue;
            };
            if Arc::get_mut(page).is_none() && page.bytes.get(inner..inner + step) == Some(new) {
                // It stays shared.
                continue;
            }
            let own = Arc::make_mut(page);
            own.hash = OnceLock::new();
            if let Some(place) = own.bytes.get_mut(inner..inner + step) {
                place.copy_from_slice(new);
            }
        }
    }

    /// Cuts, or goes on with zeros.
    pub(crate) fn resize(&mut self, len: usize) {
        self.pages
            .resize_with(len.div_ceil(PAGE_BYTES), Page::zeros);
        let inner = len % PAGE_BYTES;
        if len < self.len && inner > 0 {
            let rest = vec![0; PAGE_BYTES - inner];
            self.len = len - inner + PAGE_BYTES;
            self.put(len, &rest);
        }
        self.len = len;
    }

    /// Changes bits of one byte. False where there is none.
    pub(crate) fn flip(&mut self, position: usize, mask: u8) -> bool {
        let mut byte = [0];
        if self.read(position, &mut byte) == 0 {
            return false;
        }
        self.put(position, &byte.map(|byte| byte ^ mask));
        true
    }

    /// Folds length and bytes into `hash`.
    pub(crate) fn hash_into(&self, hash: u64) -> u64 {
        let hash = mix(hash ^ self.len as u64);
        let pages = self.pages.iter();
        pages.fold(hash, |hash, page| mix(hash ^ page.hash()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pages: &Pages) -> Vec<u8> {
        let mut bytes = vec![9; pages.len() + 5];
        let count = pages.read(0, &mut bytes);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn they_hold_what_a_vector_would() {
        let (mut pages, mut model) = (Pages::default(), Vec::new());
        let mut random = crate::sim::random::Random::new(3);
        for step in 0..2_000u64 {
            let at = random.below(20_000) as usize;
            let bytes = vec![step as u8; random.below(6_000) as usize];
            let before = pages.clone();
            let was = model.clone();
            if random.chance(200_000) {
                pages.resize(at);
                model.resize(at, 0);
            } else {
                pages.write(at, &bytes);
                model.resize(model.len().max(at + bytes.len()), 0);
                model[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            if step % 50 == 0 {
                assert_eq!(all(&pages), model);
                assert_eq!(all(&before), was, "a copy does not see it");
                let same = before.hash_into(1) == pages.hash_into(1);
                assert_eq!(same, was == model);
            }
        }
    }

    #[test]
    fn a_flipped_bit_changes_the_hash_and_comes_back() {
        let mut pages = Pages::default();
        pages.write(0, &[0; 5_000]);
        let hash = pages.hash_into(0);
        assert!(pages.flip(4_999, 4) && !pages.flip(5_000, 4));
        assert_ne!(pages.hash_into(0), hash);
        assert!(pages.flip(4_999, 4));
        assert_eq!(pages.hash_into(0), hash);
    }
}
