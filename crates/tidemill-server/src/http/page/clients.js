// Who is connected.

import { ago, bytes, compact, el, id, keyed, plural, text } from "./dom.js";

function row(client) {
  const head = el("th", { scope: "row", class: "break" }, el("span"), el("span", { class: "sub" }));
  const cells = ["in", "out", "written", "read"].map(() => el("td", { class: "n" }));
  return el("tr", {}, head, el("td", { class: "break groups" }), ...cells, el("td", { class: "last" }));
}

/** What a client says that it is, and where. */
function about(client) {
  const software = [client.software_name, client.software_version].filter(Boolean).join(" ");
  return [software, client.user, client.address].filter(Boolean).join(", ");
}

export function showClients({ clients, connected }) {
  text(id("clients-n"), connected ? plural(connected, "client") : "");
  const empty = id("clients-empty");
  empty.hidden = clients.length > 0;
  text(empty, "No client of the Kafka protocol is connected.");
  const now = Date.now();
  keyed(id("clients-rows"), clients, (client) => client.id, row, (node, client) => {
    const [name, small] = node.querySelectorAll("th span");
    text(name, client.client_id ?? "without a name");
    text(small, about(client));
    text(node.querySelector(".groups"), client.groups.join(", "));
    const [received, sent, written, read] = node.querySelectorAll(".n");
    text(received, bytes(client.received_bytes));
    text(sent, bytes(client.sent_bytes));
    text(written, compact(client.produced.records));
    text(read, compact(client.fetched.records));
    const last = client.last_request;
    text(node.querySelector(".last"), last ? `${last.name}, ${ago(last.at, now)} ago` : "");
  });
}
