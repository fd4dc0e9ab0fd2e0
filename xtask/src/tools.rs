//! Running programs, and the outside tools that steps need.
//!
//! This room may not know which step asks.

use std::path::Path;
use std::process::{Command, Stdio};

/// `cargo ARGS` at the root, its output shown.
///
/// # Errors
/// When it cannot be started or does not end well.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Result<(), String> {
    cargo_with(root, args, &[])
}

/// [`cargo`] with environment variables set.
///
/// # Errors
/// As [`cargo`].
pub(crate) fn cargo_with(root: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).current_dir(root).stdin(Stdio::null());
    command.envs(env.iter().copied());
    run(&mut command, &format!("cargo {}", args.join(" ")))
}

fn run(command: &mut Command, named: &str) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|e| format!("cannot start {named}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{named} ended with {status}"))
}

/// What `cargo ARGS` prints on standard output at the root.
///
/// # Errors
/// When it cannot be started or does not end well; then what it said.
pub(crate) fn cargo_stdout(root: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start cargo {}: {e}", args.join(" ")))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `cargo ARGS` at the root with its output kept: whether it ended well, and all it printed.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn cargo_output(root: &Path, args: &[&str]) -> Result<(bool, String), String> {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start cargo {}: {e}", args.join(" ")))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// Installs cargo-deny unless it is there.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn ensure_cargo_deny(root: &Path) -> Result<(), String> {
    if cargo_output(root, &["deny", "--version"])?.0 {
        return Ok(());
    }
    println!("cargo-deny is missing: building it once, which takes minutes");
    // A debug build takes a quarter of the time, and one run of it two seconds more.
    let args = [
        "install",
        "cargo-deny",
        "--version",
        "^0.20",
        "--locked",
        "--debug",
    ];
    cargo_with(root, &args, &[("CARGO_TARGET_DIR", "target/tools")])
}

/// Installs cargo-fuzz and the compiler of C++ that its library needs, unless they are there.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn ensure_cargo_fuzz(root: &Path) -> Result<(), String> {
    if !starts("c++") {
        install_packages(&["g++"]).map_err(|why| format!("c++ is missing: {why}"))?;
    }
    if cargo_output(root, &["fuzz", "--version"])?.0 {
        return Ok(());
    }
    println!("cargo-fuzz is missing: building it once, which takes a minute or two");
    let version = ["--version", "^0.13", "--locked", "--debug"];
    let args = [&["install", "cargo-fuzz"][..], &version].concat();
    cargo_with(root, &args, &[("CARGO_TARGET_DIR", "target/tools")])
}

/// Installs the stock clients of other languages, what drives a browser, and Apache Kafka's tools,
/// which tests use, below `target/`; node, Python, Java, Maven and Chromium come from the system's
/// packages where they are missing and may be installed.
///
/// # Errors
/// What cannot be had.
pub(crate) fn install_clients(root: &Path) -> Result<(), String> {
    install_stock_clients(root)?;
    ensure_programs(&[
        ("javac", &["default-jdk-headless"]),
        ("mvn", &["maven"]),
        ("chromium", &["chromium"]),
    ])?;
    install_by(
        root,
        "crates/tidemill-server/tests/browser/install.sh",
        "target/tmp/browser",
        "the installation of what drives a browser",
    )?;
    // It answers to no `--version`.
    if Command::new("kcat").arg("-V").output().is_err() {
        install_packages(&["kcat"]).map_err(|why| format!("kcat is missing: {why}"))?;
    }
    install_by(
        root,
        "crates/tidemill-server/tests/clients/kafka/install.sh",
        "target/tmp/kafka-clients",
        "the installation of stock Kafka clients",
    )?;
    install_by(
        root,
        "crates/tidemill-server/tests/clients/kafka/java/install.sh",
        "target/tmp/kafka-java",
        "the installation of Kafka's own Java clients",
    )?;
    install_by(
        root,
        "crates/tidemill-log/tests/kafka/install.sh",
        "target/tmp/kafka-tools",
        "the installation of Apache Kafka's tools",
    )
}

/// Where the stock clients are below the root, once they are installed.
pub(crate) const STOCK_CLIENTS: &str = "target/tmp/stock-clients";

/// As [`install_clients`], those in Python and JavaScript alone.
///
/// # Errors
/// What cannot be had.
pub(crate) fn install_stock_clients(root: &Path) -> Result<(), String> {
    ensure_programs(&[
        ("node", &["nodejs", "npm"]),
        ("python3", &["python3", "python3-venv"]),
    ])?;
    install_by(
        root,
        "crates/tidemill-server/tests/clients/install.sh",
        STOCK_CLIENTS,
        "the installation of stock Socket.IO clients",
    )
}

fn ensure_programs(programs: &[(&str, &[&str])]) -> Result<(), String> {
    for (program, packages) in programs {
        if !starts(program) {
            install_packages(packages).map_err(|why| format!("{program} is missing: {why}"))?;
        }
    }
    Ok(())
}

fn install_by(root: &Path, script: &str, folder: &str, what: &str) -> Result<(), String> {
    let mut install = Command::new("sh");
    install.arg(root.join(script)).arg(root.join(folder));
    run(install.stdin(Stdio::null()), what)
}

/// Installs `curl` from the system's packages where it is missing and may be installed.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn ensure_curl() -> Result<(), String> {
    match starts("curl") {
        true => Ok(()),
        false => install_packages(&["curl"]).map_err(|why| format!("curl is missing: {why}")),
    }
}

fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Installs packages of the system, where `apt-get` is there and lets us.
fn install_packages(packages: &[&str]) -> Result<(), String> {
    let mut update = Command::new("apt-get");
    update.args(["update", "--quiet"]).stdin(Stdio::null());
    run(&mut update, "apt-get update")?;
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]);
    install.args(packages).stdin(Stdio::null());
    run(&mut install, "apt-get install")
}

/// `cargo xtask bench`: `tidemill bench` from a release build.
///
/// # Errors
/// As [`cargo`].
pub(crate) fn bench(root: &Path, rest: &[&str]) -> Result<(), String> {
    let mut args = vec![
        "run",
        "--release",
        "--package",
        "tidemill-cli",
        "--",
        "bench",
    ];
    args.extend(rest);
    cargo(root, &args)
}
