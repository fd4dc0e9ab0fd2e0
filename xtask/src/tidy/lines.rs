//! Rules that look at lines: length of files, width of lines, module headers, leftovers.
//!
//! This room may not know what a function or a crate is.

use super::Finding;
use super::source::SourceFile;
use crate::limits::{FILE_MAX_LINES, HEADER_MIN_CHARS, LINE_MAX_COLUMNS};

/// Words that say that something is not finished; the tree keeps none of them.
const LEFTOVERS: [&str; 6] = ["TODO", "FIXME", "XXX:", "todo!", "unimplemented!", "dbg!"];

/// The rules `file-length`, `line-width` and `leftover`.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let count = file.text.lines().count();
    if file.is_rust() && count > FILE_MAX_LINES {
        let text = format!("{count} lines; at most {FILE_MAX_LINES}, split the room");
        found.push(file.finding(0, "file-length", text));
    }
    for (line, number) in file.text.lines().zip(1..) {
        let width = line.chars().count();
        if file.is_rust() && width > LINE_MAX_COLUMNS {
            let text = format!("{width} columns; at most {LINE_MAX_COLUMNS}");
            found.push(file.finding(number, "line-width", text));
        }
        for word in LEFTOVERS.iter().filter(|word| holds_word(line, word)) {
            let text = format!("{word} is left over: finish it or file it");
            found.push(file.finding(number, "leftover", text));
        }
    }
    found
}

/// Whether `line` holds `word` with no letter before it, so that a longer word does not count.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|tail| tail.chars().next());
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !letter(before) && !letter(after)
    })
}

/// The rule `header`: every Rust file opens with inner documentation that says something.
pub(crate) fn header(file: &SourceFile, tree: &syn::File) -> Option<Finding> {
    let mut chars = 0;
    for attr in &tree.attrs {
        if let syn::Meta::NameValue(pair) = &attr.meta
            && pair.path.is_ident("doc")
            && let syn::Expr::Lit(literal) = &pair.value
            && let syn::Lit::Str(text) = &literal.lit
        {
            chars += text.value().trim().chars().count();
        }
    }
    (chars < HEADER_MIN_CHARS).then(|| {
        let text = "begin with `//!`: what this room is for, what it may not know";
        file.finding(1, "header", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile {
            path: "crates/x/src/a.rs".to_owned(),
            text: text.to_owned(),
        }
    }

    fn rules(text: &str) -> Vec<&'static str> {
        let file = file(text);
        let mut rules: Vec<_> = check(&file).iter().map(|f| f.rule).collect();
        rules.extend(header(&file, &syn::parse_file(text).unwrap()).map(|f| f.rule));
        rules
    }

    const GOOD: &str = "//! A room that says what it is for.\n";

    #[test]
    fn a_file_in_order_has_no_finding() {
        assert_eq!(rules(GOOD), [""; 0]);
    }

    #[test]
    fn too_many_lines_are_found() {
        let longest = format!("{GOOD}{}", "\n".repeat(FILE_MAX_LINES - 1));
        assert_eq!(rules(&longest), [""; 0]);
        assert_eq!(rules(&format!("{longest}\n")), ["file-length"]);
    }

    #[test]
    fn a_wide_line_is_found_by_its_characters() {
        let umlauts = "ä".repeat(LINE_MAX_COLUMNS - 3);
        assert_eq!(rules(&format!("{GOOD}// {umlauts}\n")), [""; 0]);
        assert_eq!(rules(&format!("{GOOD}// {umlauts}ä\n")), ["line-width"]);
    }

    #[test]
    fn each_leftover_is_found_as_a_word() {
        for word in LEFTOVERS {
            assert_eq!(
                rules(&format!("{GOOD}// {word} later\n")),
                ["leftover"],
                "{word}"
            );
        }
        assert_eq!(
            rules(&format!("{GOOD}// MASTODON, xdbg!, TODOS\n")),
            [""; 0]
        );
    }

    #[test]
    fn a_missing_or_empty_header_is_found() {
        assert_eq!(rules("fn a() {}\n"), ["header"]);
        assert_eq!(rules("//! Short.\nfn a() {}\n"), ["header"]);
        assert_eq!(rules("// An ordinary comment is no header\n"), ["header"]);
    }
}
