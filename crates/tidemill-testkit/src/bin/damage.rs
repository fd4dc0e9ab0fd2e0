//! Every small damage to every file of a small log, without leaving out a byte: what
//! `tests/small_damage.rs` does to most. Prints what was tried, and ends with 1 on the first case
//! that must not be.

use std::process::ExitCode;

use tidemill_testkit::sim::damage::Specimen;

fn all(marked: bool) -> Result<(), String> {
    let specimen = Specimen::make(marked)?;
    let what = if marked { "with" } else { "without" };
    // Without a marker at the end only the journal is another one.
    let prefix = if marked { "" } else { "journal/" };
    let tally = specimen.try_all(prefix, false)?;
    println!("{what} a marker at the journal's end, {tally} nothing broken");
    Ok(())
}

fn main() -> ExitCode {
    match all(true).and_then(|()| all(false)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            eprintln!("{broken}");
            ExitCode::FAILURE
        }
    }
}
