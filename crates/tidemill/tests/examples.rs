//! The examples, run and checked for what they print.
#![cfg(feature = "broker")]

#[path = "../examples/ask.rs"]
mod ask;
#[path = "../examples/orders.rs"]
mod orders;

#[tokio::test]
async fn orders_are_charged_and_shipped() {
    let mut lines = Vec::new();
    orders::run(|line| lines.push(line)).await.unwrap();
    assert_eq!(lines[0], "charge handles order_created");
    assert_eq!(lines[1], "ship handles order_paid");
    let mut shipped: Vec<_> = lines.iter().filter(|l| l.ends_with("on its way")).collect();
    shipped.sort();
    let expected = [
        "order 1 is on its way",
        "order 2 is on its way",
        "order 3 is on its way",
    ];
    assert_eq!(shipped, expected);
}

#[tokio::test]
async fn a_question_is_answered_or_says_why_not() {
    let mut lines = Vec::new();
    ask::run(|line| lines.push(line)).await.unwrap();
    assert_eq!(lines[0], "tea costs 450 cents");
    assert!(lines[1].starts_with("no price for gold:"), "{}", lines[1]);
    assert!(lines[1].contains("there is no article"), "{}", lines[1]);
}
