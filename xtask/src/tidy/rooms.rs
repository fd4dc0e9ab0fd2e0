//! What a room must never touch, as far as names in its code can tell.
//!
//! Only code counts: comments and texts may speak of anything, and test modules are free. This
//! room may not know Cargo's view of the crates; that is `arrows.rs`.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::Finding;
use super::functions::is_test;
use super::source::SourceFile;

/// One room's rule.
struct Room {
    /// Where the rule holds.
    under: &'static str,
    /// A part of it where it does not.
    except: Option<&'static str>,
    /// Paths that may not stand there, `::` between their parts.
    never: &'static [&'static str],
    why: &'static str,
}

const ROOMS: [Room; 4] = [
    Room {
        under: "crates/tidemill-core/src/",
        except: None,
        never: &[
            "tokio",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant",
            "SystemTime",
            "Timestamp::now",
        ],
        why: "core has no runtime, no files, no sockets and no clock: take it as an argument",
    },
    Room {
        under: "crates/tidemill-log/src/",
        except: Some("crates/tidemill-log/src/driver/"),
        never: &[
            "tokio",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant",
            "SystemTime",
            "Timestamp::now",
        ],
        why: "threads, files and clocks of the log live in src/driver/ alone",
    },
    Room {
        under: "crates/tidemill-broker/src/",
        except: None,
        never: &[
            "axum",
            "hyper",
            "http",
            "kafka_protocol",
            "amq_protocol",
            "std::fs",
            "std::net",
        ],
        why: "the broker knows no protocol, no socket and no file",
    },
    Room {
        under: "apps/",
        except: None,
        never: &[
            "tidemill_core",
            "tidemill_log",
            "tidemill_broker",
            "tidemill_server",
        ],
        why: "an application uses the public API of `tidemill` alone",
    },
];

/// The rule `room`.
pub(crate) fn check(file: &SourceFile, tree: &syn::File) -> Vec<Finding> {
    let holds = |room: &&Room| {
        file.path.starts_with(room.under) && !room.except.is_some_and(|e| file.path.starts_with(e))
    };
    let rooms: Vec<&Room> = ROOMS.iter().filter(holds).collect();
    if rooms.is_empty() {
        return Vec::new();
    }
    let mut names = Names { paths: Vec::new() };
    names.visit_file(tree);
    let mut found = Vec::new();
    for (path, span) in &names.paths {
        for room in &rooms {
            if let Some(never) = room.never.iter().find(|never| mentions(path, never)) {
                let text = format!("{never} has no place here: {}", room.why);
                found.push(file.finding(span.start().line, "room", text));
            }
        }
    }
    found.dedup();
    found
}

/// Whether the parts of `never` stand one after another in `path`.
fn mentions(path: &[String], never: &str) -> bool {
    let parts: Vec<&str> = never.split("::").collect();
    path.windows(parts.len()).any(|window| window == parts)
}

/// Collects every path in code outside tests.
struct Names {
    paths: Vec<(Vec<String>, Span)>,
}

impl Names {
    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(ident.to_string());
            path
        };
        match tree {
            syn::UseTree::Path(part) => self.use_tree(&part.tree, &with(&part.ident)),
            syn::UseTree::Name(name) => self.paths.push((with(&name.ident), name.ident.span())),
            syn::UseTree::Rename(name) => self.paths.push((with(&name.ident), name.ident.span())),
            syn::UseTree::Glob(glob) => {
                self.paths.push((before.to_vec(), glob.star_token.spans[0]));
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, before);
                }
            }
        }
    }

    /// Paths inside a macro's tokens: names joined by `::`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut at = Span::call_site();
        let mut colons = 0;
        for tree in tokens {
            match tree {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.close(&mut path, at);
                    }
                    at = ident.span();
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.close(&mut path, at);
                    self.tokens(group.stream());
                }
                _ => self.close(&mut path, at),
            }
        }
        self.close(&mut path, at);
    }

    fn close(&mut self, path: &mut Vec<String>, at: Span) {
        if !path.is_empty() {
            self.paths.push((std::mem::take(path), at));
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.use_tree(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|s| s.ident.to_string()).collect();
        let span = path
            .segments
            .first()
            .map_or_else(Span::call_site, |s| s.ident.span());
        self.paths.push((parts, span));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        visit::visit_macro(self, item);
        self.tokens(item.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let found = check(&file, &syn::parse_file(text).unwrap());
        found.into_iter().map(|f| f.line).collect()
    }

    const CORE: &str = "crates/tidemill-core/src/a.rs";
    const LOG: &str = "crates/tidemill-log/src/journal.rs";

    #[test]
    fn every_way_to_name_a_thing_is_seen() {
        for code in [
            "use tokio::sync::Mutex;",
            "use {std::{io, fs::File}};",
            "use std::fs::*;",
            "fn a() { std::thread::spawn(|| ()); }",
            "fn a() -> std::time::Instant { panic!() }",
            "fn a() { x(jiff::Timestamp::now()) }",
            "fn a() { assert!(b(std::time::SystemTime::now())); }",
        ] {
            assert_eq!(lines(CORE, code), [1], "{code}");
            assert_eq!(lines(LOG, code), [1], "{code}");
        }
    }

    #[test]
    fn comments_texts_and_tests_are_free() {
        let free = "//! No tokio here, nor std::fs.\nconst A: &str = \"std::fs\";
            /// Nor tokio.\nfn a(instant: u8, std: std::io::Error) {}
            #[cfg(test)] mod tests { use std::thread; }";
        assert_eq!(lines(CORE, free), [0; 0]);
    }

    #[test]
    fn the_logs_driver_may_touch_files_and_its_neighbours_may_not() {
        let code = "use std::fs::File;";
        assert_eq!(
            lines("crates/tidemill-log/src/driver/file.rs", code),
            [0; 0]
        );
        assert_eq!(lines("crates/tidemill-log/src/drivers.rs", code), [1]);
        assert_eq!(lines("crates/tidemill-server/src/a.rs", code), [0; 0]);
    }

    #[test]
    fn the_broker_and_the_apps_have_their_own_rules() {
        assert_eq!(
            lines("crates/tidemill-broker/src/a.rs", "use axum::Router;"),
            [1]
        );
        assert_eq!(
            lines("apps/shop/src/a.rs", "use tidemill_core::Event;"),
            [1]
        );
        assert_eq!(
            lines("apps/shop/tests/a.rs", "use tidemill_broker::Broker;"),
            [1]
        );
        assert_eq!(lines("apps/shop/src/a.rs", "use tidemill::Event;"), [0; 0]);
    }
}
