//! Command lines that a message gives somebody to type.
//!
//! This room may not know any command.

/// Words as a shell takes them.
pub(crate) fn line(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" ")
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:,=@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// `tidemill COMMAND NAME OPTIONS`; a name that looks like an option goes to the end, behind `--`.
pub(crate) fn tidemill(command: &str, name: Option<&str>, options: &[String]) -> String {
    let mut words = Vec::from(options);
    match name {
        Some(name) if name.starts_with('-') => words.extend(["--".to_owned(), name.to_owned()]),
        Some(name) => words.insert(0, name.to_owned()),
        None => {}
    }
    format!("tidemill {command} {}", line(&words))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_the_shell() {
        for (word, shown) in [
            ("0:17,1:4", "0:17,1:4"),
            ("http://127.0.0.1:7575", "http://127.0.0.1:7575"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("http://[::1]:1", "'http://[::1]:1'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), shown);
        }
    }

    #[test]
    fn a_name_is_never_taken_for_an_option() {
        let options = ["--data".to_owned(), "my data".to_owned()];
        assert_eq!(
            tidemill("topic show", Some("t"), &options),
            "tidemill topic show t --data 'my data'"
        );
        assert_eq!(
            tidemill("topic show", Some("-t"), &options),
            "tidemill topic show --data 'my data' -- -t"
        );
        assert_eq!(tidemill("topic list", None, &[]), "tidemill topic list");
    }
}
