//! How long functions are, measured on the parsed file, tests apart.
//!
//! This room may not know the other rules.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Finding;
use super::source::SourceFile;
use crate::limits::FUNCTION_MAX_LINES;

/// One function and its size.
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of its signature, from 1.
    pub(crate) start: usize,
    /// Lines from the signature to the closing brace.
    pub(crate) lines: usize,
    /// Whether it is test code.
    pub(crate) test: bool,
}

/// The rule `function-length`.
pub(crate) fn check(file: &SourceFile, tree: &syn::File) -> Vec<Finding> {
    let long = |f: &Function| !f.test && f.lines > FUNCTION_MAX_LINES;
    let measured = measure(file, tree);
    let texts = measured.iter().filter(|f| long(f)).map(|f| {
        let text = format!(
            "fn {} has {} lines; at most {FUNCTION_MAX_LINES}",
            f.name, f.lines
        );
        file.finding(f.start, "function-length", text)
    });
    texts.collect()
}

/// Every function with a body in `tree`, in order.
pub(crate) fn measure(file: &SourceFile, tree: &syn::File) -> Vec<Function> {
    let mut meter = Meter {
        test: file.is_test(),
        found: Vec::new(),
    };
    meter.visit_file(tree);
    meter.found
}

struct Meter {
    test: bool,
    found: Vec<Function>,
}

impl Meter {
    fn add(&mut self, attrs: &[syn::Attribute], sig: &syn::Signature, block: &syn::Block) {
        let start = sig.span().start().line;
        self.found.push(Function {
            name: sig.ident.to_string(),
            start,
            lines: block.span().end().line + 1 - start,
            test: self.test || is_test(attrs),
        });
    }

    fn inside(&mut self, attrs: &[syn::Attribute], walk: impl FnOnce(&mut Self)) {
        let outer = self.test;
        self.test |= is_test(attrs);
        walk(self);
        self.test = outer;
    }
}

/// Whether attributes make their item test code: `#[cfg(test)]`, `#[test]`, `#[tokio::test]`.
pub(crate) fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        meta => meta
            .path()
            .segments
            .last()
            .is_some_and(|s| s.ident == "test"),
    })
}

impl<'ast> Visit<'ast> for Meter {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inside(&item.attrs, |meter| visit::visit_item_mod(meter, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.inside(&item.attrs, |meter| visit::visit_item_impl(meter, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.attrs, &item.sig, &item.block);
        self.inside(&item.attrs, |meter| visit::visit_item_fn(meter, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.attrs, &item.sig, &item.block);
        self.inside(&item.attrs, |meter| visit::visit_impl_item_fn(meter, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.attrs, &item.sig, block);
        }
        self.inside(&item.attrs, |meter| visit::visit_trait_item_fn(meter, item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let tree = syn::parse_file(text).unwrap();
        check(&file, &tree).into_iter().map(|f| f.text).collect()
    }

    fn body(lines: usize) -> String {
        format!("() {{\n{}}}\n", "f();\n".repeat(lines - 2))
    }

    #[test]
    fn the_first_line_too_many_is_found() {
        let most = format!("/// Doc.\nfn a{}", body(FUNCTION_MAX_LINES));
        assert_eq!(found("src/a.rs", &most), [""; 0]);
        let more = format!("fn a{}", body(FUNCTION_MAX_LINES + 1));
        assert_eq!(found("src/a.rs", &more), ["fn a has 71 lines; at most 70"]);
    }

    #[test]
    fn methods_are_measured_too() {
        let long = body(FUNCTION_MAX_LINES + 1);
        let text = format!("impl A {{ fn b{long} }}\ntrait C {{ fn d{long} }}");
        assert_eq!(found("src/a.rs", &text).len(), 2);
    }

    #[test]
    fn tests_may_be_long() {
        let long = body(100);
        let text =
            format!("#[cfg(test)]\nmod tests {{ fn a{long} }}\n#[tokio::test] async fn b{long}");
        assert_eq!(found("src/a.rs", &text), [""; 0]);
        assert_eq!(found("tests/a.rs", &format!("fn a{long}")), [""; 0]);
        let not_a_test = format!("#[cfg(feature = \"test\")]\nmod m {{ fn a{long} }}");
        assert_eq!(found("src/a.rs", &not_a_test).len(), 1);
    }
}
