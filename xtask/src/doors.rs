//! Runs the commands of docs/HTTP.md, docs/QUEUES.md and docs/SHOP.md from top to bottom, each
//! against a new server, and compares the answers that they show with those that come.
//!
//! This room may not know what the doors do beyond what the document says.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::guides::Programs;
use crate::readme::{Place, Server};
use crate::tools;

/// The address of the server that documents name.
pub(crate) const ADDRESS: &str = "http://127.0.0.1:7575";

/// What documents name, and where that listens in this run.
pub(crate) type Addresses<'a> = [(&'a str, String)];

/// A document, what it is run against, and the addresses that this prints, in their order.
pub(crate) struct Document {
    pub(crate) name: &'static str,
    pub(crate) folder: &'static str,
    pub(crate) server: &'static str,
    pub(crate) addresses: &'static [&'static str],
}

const DOCUMENTS: [Document; 3] = [
    Document {
        name: "docs/HTTP.md",
        folder: "target/doors",
        server: "serve --backups backups",
        addresses: &[ADDRESS],
    },
    Document {
        name: "docs/QUEUES.md",
        folder: "target/doors-queues",
        server: "serve",
        addresses: &[ADDRESS],
    },
    Document {
        name: "docs/SHOP.md",
        folder: "target/doors-shop",
        server: "demo --bus memory: --rate 0 --shop 127.0.0.1:0 --messages 127.0.0.1:0",
        addresses: &[ADDRESS, "http://127.0.0.1:7581", "http://127.0.0.1:7580"],
    },
];

/// A code block of a document.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    /// The line of the document that opens it.
    pub(crate) line: usize,
    /// Nothing stands between it and the block before.
    follows: bool,
}

/// Runs every command, and compares each block of JSON that follows commands with the answer of
/// the last one.
///
/// # Errors
/// The line of the document that is not true, and what came instead; or that there is no `curl`.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    tools::ensure_curl()?;
    DOCUMENTS
        .iter()
        .try_for_each(|document| check_one(root, document, None))
}

/// Runs one document. What is not of the shell is run by `programs`, if there are some.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_one(
    root: &Path,
    document: &Document,
    mut programs: Option<&mut Programs>,
) -> Result<(), String> {
    let name = document.name;
    let text =
        std::fs::read_to_string(root.join(name)).map_err(|e| format!("cannot read {name}: {e}"))?;
    let place = Place::new(root, document.folder)?;
    let words: Vec<String> = document.server.split(' ').map(str::to_owned).collect();
    let mut server = Server::start(&place, &words)?;
    let urls = document.addresses.iter();
    let urls = urls.map(|address| Ok((*address, server.url()?)));
    let urls: Vec<(&str, String)> = urls.collect::<Result<_, String>>()?;
    let (mut ran, mut compared) = (0, 0);
    let blocks = blocks(&text);
    let mut following = blocks.iter().skip(1);
    for block in &blocks {
        let next = following.next().filter(|next| next.follows);
        let said = next.filter(|next| next.language == "text");
        let shown = next.filter(|next| next.language == "json");
        let at = |why: String| format!("{name}:{}: {why}", block.line);
        if block.language != "sh" {
            if let Some(programs) = programs.as_deref_mut()
                && let Some(printed) = programs.run(block, said.is_some(), &urls).map_err(at)?
            {
                says(said, &printed).map_err(at)?;
                ran += 1;
                compared += usize::from(said.is_some());
            }
            continue;
        }
        let shown = shown.map(|next| json(&next.text, next.line)).transpose()?;
        let commands = commands(&block.text);
        for (n, command) in commands.iter().enumerate() {
            let is_last = n + 1 == commands.len();
            let shown = shown.as_ref().filter(|_| is_last);
            let said = said.filter(|_| is_last);
            let at = |why: String| at(format!("{command}\n{why}"));
            match (command.split_once(' '), programs.as_deref_mut()) {
                (Some(("tidemill", _)), _) => program(command, &urls, &place, said).map_err(at)?,
                (Some(("cargo", _)), Some(programs)) => {
                    programs.start(command, &urls).map_err(at)?;
                }
                _ => one(command, &urls, shown).map_err(at)?,
            }
            ran += 1;
            compared += usize::from(shown.is_some() || said.is_some());
        }
    }
    if ran == 0 || compared == 0 {
        return Err(format!("{name} has no commands, or shows no answers"));
    }
    println!("{name}: {ran} commands ran, {compared} answers are as shown");
    Ok(())
}

/// Runs a command of the program itself, which must say just what is shown, if something is.
fn program(
    command: &str,
    urls: &Addresses<'_>,
    place: &Place,
    said: Option<&Block>,
) -> Result<(), String> {
    let server = urls.first().map_or("", |(_, url)| url.as_str());
    let line = format!("tidemill() {{ \"$PROGRAM\" \"$@\"; }}; {command}");
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("PROGRAM", place.binary())
        .env("TIDEMILL_SERVER", server)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run sh: {e}"))?;
    match output.status.success() {
        true => says(said, &String::from_utf8_lossy(&output.stdout)),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What was printed is what is shown, if something is; three dots stand for any text of a line.
fn says(said: Option<&Block>, printed: &str) -> Result<(), String> {
    let Some(said) = said.map(|said| said.text.as_str()) else {
        return Ok(());
    };
    let same = said.lines().count() == printed.lines().count();
    let mut lines = said.lines().zip(printed.lines());
    match same && lines.all(|(shown, line)| is_line(shown, line)) {
        true => Ok(()),
        false => Err(format!("is shown to say\n{said}and said\n{printed}")),
    }
}

fn is_line(shown: &str, line: &str) -> bool {
    let Some((begin, rest)) = shown.split_once("...") else {
        return shown == line;
    };
    let Some(mut line) = line.strip_prefix(begin) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split("...").collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, behind)) = line.split_once(part) else {
            return false;
        };
        line = behind;
    }
    line.ends_with(end)
}

/// Runs one command, whose answer must be as shown, and good if nothing else is shown.
fn one(command: &str, urls: &Addresses<'_>, shown: Option<&Value>) -> Result<(), String> {
    let (status, answer) = curl_at(command, urls)?;
    // A problem document that is shown tells its own status, or code.
    let told = |name| shown.and_then(|shown| shown.get(name)?.as_u64());
    let expected = told("status").or_else(|| told("code"));
    let good = match expected {
        Some(expected) => u64::from(status) == expected,
        None => (200..300).contains(&status),
    };
    if !good {
        return Err(format!("was answered with {status}: {answer}"));
    }
    let Some(shown) = shown else { return Ok(()) };
    let answer = json(&answer, 0)?;
    if is_shown(shown, &answer) {
        return Ok(());
    }
    Err(format!("is shown as {shown}\nand answered with {answer}"))
}

/// Runs a command that begins with `curl` against the server at `url`: the status and the body.
///
/// # Errors
/// When it does not run or brings no answer.
pub(crate) fn curl(command: &str, url: &str) -> Result<(u16, String), String> {
    curl_at(command, &[(ADDRESS, url.to_owned())])
}

fn curl_at(command: &str, urls: &Addresses<'_>) -> Result<(u16, String), String> {
    let Some(rest) = command.strip_prefix("curl ") else {
        return Err("only commands that begin with curl are run here".to_owned());
    };
    let there = |line: String, (address, url): &(&str, String)| line.replace(address, url);
    let rest = urls.iter().fold(rest.to_owned(), there);
    let line = format!("curl -sS -w '\\n%{{http_code}}' {rest}");
    let output = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run sh: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ended = text.rsplit_once('\n').filter(|_| output.status.success());
    let status = ended.and_then(|(body, status)| Some((status.parse().ok()?, body.to_owned())));
    status.ok_or_else(|| format!("got no answer: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Whether an answer has what is shown of it: a text that ends with three dots is only begun, and
/// an object may have more members than are shown.
fn is_shown(shown: &Value, answer: &Value) -> bool {
    match (shown, answer) {
        (Value::Object(shown), Value::Object(answer)) => shown
            .iter()
            .all(|(name, shown)| answer.get(name).is_some_and(|found| is_shown(shown, found))),
        (Value::Array(shown), Value::Array(answer)) => {
            let pairs = shown.iter().zip(answer);
            shown.len() == answer.len() && pairs.into_iter().all(|(s, a)| is_shown(s, a))
        }
        (Value::String(shown), Value::String(answer)) => match shown.strip_suffix("...") {
            Some(begun) => answer.starts_with(begun),
            None => shown == answer,
        },
        _ => shown == answer,
    }
}

fn json(text: &str, line: usize) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("line {line} is no JSON: {e}\n{text}"))
}

/// The commands of a block: one a line, unless the line goes on after a backslash.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut begun = String::new();
    for line in text.lines() {
        if begun.is_empty() && (line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        begun.push_str(line);
        if line.ends_with('\\') {
            begun.push('\n');
        } else {
            commands.push(std::mem::take(&mut begun));
        }
    }
    commands
}

/// The code blocks of a document.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut between = true;
    for (n, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => {
                blocks.extend(open.take());
                between = false;
            }
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    line: n + 1,
                    follows: !between,
                });
            }
            (None, None) => between |= !line.is_empty(),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_and_commands_are_found() {
        let text = "a\n```sh\n# one\ncurl a \\\n  -d b\n\ncurl c\n```\n```json\n{}\n```\n\
            text\n```json\n[]\n```\n";
        let found = blocks(text);
        let kinds: Vec<(&str, usize, bool)> = found
            .iter()
            .map(|b| (b.language.as_str(), b.line, b.follows))
            .collect();
        assert_eq!(
            kinds,
            [("sh", 2, false), ("json", 9, true), ("json", 13, false)]
        );
        assert_eq!(commands(&found[0].text), ["curl a \\\n  -d b", "curl c"]);
    }

    #[test]
    fn an_answer_has_at_least_what_is_shown() {
        let answer = json!({"id": "019f", "at": [1, {"x": true}], "more": 1});
        for (shown, is) in [
            (json!({"id": "019..."}), true),
            (json!({"id": "018..."}), false),
            (json!({"id": "019"}), false),
            (json!({"at": [1, {"x": true}]}), true),
            (json!({"at": [1]}), false),
            (json!({"at": [1, {"x": false}]}), false),
            (json!({"less": 1}), false),
        ] {
            assert_eq!(is_shown(&shown, &answer), is, "{shown}");
        }
    }

    #[test]
    fn three_dots_stand_for_any_text_of_a_line() {
        for (shown, line, is) in [
            ("a b", "a b", true),
            ("a", "a b", false),
            ("a ... c", "a b b c", true),
            ("a ... c", "a b", false),
            ("... is ... x", "it is not x", true),
            ("... is ... x", "it was x", false),
            ("a...", "b", false),
        ] {
            assert_eq!(is_line(shown, line), is, "{shown}: {line}");
        }
    }

    #[test]
    fn what_is_not_curl_is_not_run() {
        assert!(curl("rm -r x", ADDRESS).unwrap_err().contains("curl"));
    }
}
