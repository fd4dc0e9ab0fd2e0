//! The compiler's messages for wrong handlers are part of the interface: each file in `tests/ui`
//! is a mistake, and the text beside it is what its author reads. After a change of the compiler
//! or of a message, `TRYBUILD=overwrite cargo test -p tidemill --test ui` writes them anew.

#[test]
fn a_wrong_handler_gives_a_message_that_helps() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
