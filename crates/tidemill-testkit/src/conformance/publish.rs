//! Publishing: positions, contents, refusals.

use tidemill_core::{
    Event, EventId, EventType, ExtensionValue, Key, Order, PublishError, Source, Start, Subject,
};

use super::Instance;
use super::tools::{Checked, ack, bus, ensure, event, events};

pub(super) async fn positions_ascend_and_lead_to_the_events(instance: &Instance) -> Checked {
    let topic = instance.topic("positions");
    let mut published = Vec::new();
    for round in 0..5 {
        let batch: Vec<Event> = (0..4)
            .map(|n| event(Some("one"), &format!("{round}-{n}")))
            .collect();
        let names: Vec<String> = batch.iter().map(|e| e.id().as_str().to_owned()).collect();
        let positions = instance.publish(&topic, batch).await?;
        published.extend(positions.into_iter().zip(names));
    }
    let Some((first, _)) = published.first().cloned() else {
        return Ok(());
    };
    for ((before, _), (after, _)) in published.iter().zip(published.iter().skip(1)) {
        ensure!(
            before.topic == topic && before.partition == after.partition,
            "events of one key lie in two places: {before} and {after}"
        );
        ensure!(
            before.offset < after.offset,
            "{after} was given after {before}"
        );
    }
    let kept = instance.all_of(&first).await?;
    let expected: Vec<_> = published
        .into_iter()
        .map(|(p, id)| (p.offset, id))
        .collect();
    ensure!(
        kept == expected,
        "published {expected:?} and found {kept:?}"
    );
    Ok(())
}

pub(super) async fn events_come_back_verbatim(instance: &Instance) -> Checked {
    let topic = instance.topic("verbatim");
    let json = r#"{ "n": 12345678901234567890123, "s":"é\u00e9" , "d": 1.10 }"#;
    let full = Event::builder(
        EventId::new("höh € 😀").expect("a legal id"),
        Source::new("https://example.com/shop?x=1").expect("a legal source"),
        EventType::new("com.example.order_paid").expect("a legal type"),
    )
    .subject(Subject::new("orders/7").expect("a legal subject"))
    .time("2026-01-02T03:04:05.678901Z".parse().expect("a legal time"))
    .dataschema("https://example.com/schema")
    .key(&Key::new("k").expect("a legal key"))
    .extension("number", ExtensionValue::Integer(-7))
    .extension("flag", ExtensionValue::Boolean(true))
    .data("application/json; charset=utf-8", json)
    .build()
    .expect("every part is legal");
    let binary = event(Some("k"), "binary")
        .to_builder()
        .data("application/octet-stream", vec![0u8, 255, 10, 13, 0])
        .build()
        .expect("every part is legal");
    let none = Event::builder(
        EventId::new("no data").expect("a legal id"),
        Source::new("/conformance").expect("a legal source"),
        EventType::new("conformance").expect("a legal type"),
    )
    .key(&Key::new("k").expect("a legal key"))
    .build()
    .expect("every part is legal");
    let sent = vec![full, binary, none];
    instance.publish(&topic, sent.clone()).await?;
    let mut member = instance
        .join(&topic, "g", Order::PerKey, Start::Beginning)
        .await?;
    for expected in sent {
        let (delivery, settlement) = member.one().await?;
        ensure!(
            same(&delivery.event, &expected),
            "published {expected:?} and got {:?}",
            delivery.event
        );
        ack(settlement).await?;
    }
    Ok(())
}

/// Equal but for the CloudEvents types of extensions, which some transports carry as text.
fn same(got: &Event, sent: &Event) -> bool {
    let texts = |event: &Event| -> Vec<(String, String)> {
        let all = event.extensions();
        all.map(|(name, value)| (name.to_owned(), value.to_text().to_string()))
            .collect()
    };
    got.id() == sent.id()
        && got.source() == sent.source()
        && got.ty() == sent.ty()
        && got.subject() == sent.subject()
        && got.time() == sent.time()
        && got.datacontenttype() == sent.datacontenttype()
        && got.dataschema() == sent.dataschema()
        && got.data() == sent.data()
        && texts(got) == texts(sent)
}

pub(super) async fn an_empty_publish_is_nothing(instance: &Instance) -> Checked {
    let topic = instance.topic("empty");
    let before = instance.publish(&topic, events("k", 1)).await?;
    instance.publish(&topic, Vec::new()).await?;
    let after = instance
        .publish(&topic, vec![event(Some("k"), "after")])
        .await?;
    let gap = before
        .iter()
        .zip(&after)
        .all(|(b, a)| b.offset.next() == a.offset);
    ensure!(
        gap,
        "between {before:?} and {after:?} nothing was published"
    );
    Ok(())
}

pub(super) async fn too_large_is_refused_whole(instance: &Instance) -> Checked {
    let topic = instance.topic("large");
    let Some(max_bytes) = instance.features.event_max_bytes else {
        return Ok(());
    };
    let before = instance.publish(&topic, events("k", 1)).await?;
    let large = event(Some("k"), "large")
        .to_builder()
        .untyped_data(vec![b'7'; max_bytes + 1])
        .build()
        .expect("size is not part of being valid");
    let batch = vec![event(Some("k"), "beside"), large];
    let refused = bus(instance).publish(topic.clone(), batch);
    let answer = instance.within("publish", refused).await?;
    ensure!(
        matches!(answer, Err(PublishError::TooLarge { .. })),
        "an event of more than {max_bytes} bytes was answered {answer:?}"
    );
    instance
        .publish(&topic, vec![event(Some("k"), "after")])
        .await?;
    let Some(first) = before.first() else {
        return Ok(());
    };
    let kept: Vec<String> = instance
        .all_of(first)
        .await?
        .into_iter()
        .map(|k| k.1)
        .collect();
    ensure!(
        kept == ["k-0", "after"],
        "a refused batch left something behind: {kept:?}"
    );
    Ok(())
}
