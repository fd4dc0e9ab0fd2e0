//! The flow graph as text for Mermaid, which draws it in documents. Names are put in so that they
//! mean nothing but themselves.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::{Edge, Graph, Kind, Way};

/// Types that an edge names.
const TYPES_SHOWN: usize = 4;

pub(super) fn text(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    let mut numbers = HashMap::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        numbers.insert(node.id.as_str(), number);
        let name = escaped(&node.name);
        let (open, close, class) = match node.kind {
            Kind::Source => ("([", "])", "source"),
            Kind::Topic => ("[", "]", "topic"),
            Kind::Queue => ("[(", ")]", "queue"),
            Kind::Group => ("{{", "}}", "group"),
        };
        // Writing to a text does not fail, here and below.
        let _ = writeln!(text, "  n{number}{open}\"{name}\"{close}:::{class}");
    }
    for edge in &graph.edges {
        let ends = numbers
            .get(edge.from.as_str())
            .zip(numbers.get(edge.to.as_str()));
        let Some((from, to)) = ends else { continue };
        let line = if edge.seen { "-->" } else { "-.->" };
        let _ = match label(edge) {
            label if label.is_empty() => writeln!(text, "  n{from} {line} n{to}"),
            label => writeln!(text, "  n{from} {line}|\"{label}\"| n{to}"),
        };
    }
    text.push_str(
        "  classDef source fill:#f5f6f4,stroke:#56635f,color:#17211f\n  \
         classDef topic fill:#e2f2ef,stroke:#0f766e,color:#17211f\n  \
         classDef queue fill:#e2f2ef,stroke:#0f766e,color:#17211f\n  \
         classDef group fill:#fbefdf,stroke:#a85107,color:#17211f\n",
    );
    text
}

fn label(edge: &Edge) -> String {
    let shown = edge.types.iter().take(TYPES_SHOWN);
    let mut names: Vec<String> = shown.map(|ty| escaped(ty)).collect();
    let more = edge.types.len().saturating_sub(TYPES_SHOWN);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    // Every type that a topic has is delivered, whatever a group handles of it.
    match edge.kind {
        Way::Delivers if !edge.declared => String::new(),
        _ => names.join(", "),
    }
}

/// Anything that Mermaid could take for more than text becomes an entity.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            _ if c.is_alphanumeric() => text.push(c),
            ' ' | '_' | '-' | '.' | '/' => text.push(c),
            _ => {
                let _ = write!(text, "#{};", u32::from(c));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_nothing_but_themselves() {
        assert_eq!(escaped("/shop/orders-1.v2"), "/shop/orders-1.v2");
        assert_eq!(escaped("a\"]-->b"), "a#34;#93;--#62;b");
        assert_eq!(escaped("`<b>#1;"), "#96;#60;b#62;#35;1#59;");
    }
}
