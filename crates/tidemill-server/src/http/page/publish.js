// The form that publishes one event, as a CloudEvent in structured mode.

import { part, post, uuid } from "./api.js";
import { attribute, id, text } from "./dom.js";

function said(words, kind) {
  attribute(id("pub-said"), "data-kind", kind);
  text(id("pub-said"), words);
}

function wrong(field, words) {
  attribute(field, "aria-invalid", words ? "true" : null);
  if (words) {
    said(words, "bad");
    field.focus();
  }
  return Boolean(words);
}

/** The form's event; nothing where a field is wrong, which is told. */
function read() {
  for (const name of ["topic", "type", "source"]) {
    const field = id(`pub-${name}`);
    if (wrong(field, field.value.trim() ? "" : `an event has a ${name}`)) return null;
  }
  const data = id("pub-data");
  let value;
  try {
    value = JSON.parse(data.value);
  } catch (error) {
    wrong(data, `the data is not JSON: ${error.message}`);
    return null;
  }
  wrong(data, "");
  const key = id("pub-key").value;
  return {
    specversion: "1.0",
    id: uuid(),
    source: id("pub-source").value.trim(),
    type: id("pub-type").value.trim(),
    time: new Date().toISOString(),
    datacontenttype: "application/json",
    ...(key ? { partitionkey: key } : {}),
    data: value,
  };
}

async function publish(after) {
  const event = read();
  if (!event) return;
  const topic = id("pub-topic").value.trim();
  const button = id("pub-send");
  button.disabled = true;
  said("publishing …", null);
  try {
    const kept = await post(`/v1/topics/${part(topic)}/events`, "application/cloudevents+json", event);
    said(`kept in ${kept.topic}, partition ${kept.partition}, offset ${kept.offset}`, "good");
    after();
  } catch (error) {
    said(error.message, "bad");
  } finally {
    button.disabled = false;
  }
}

/** Makes the form work; `after` is called when an event was kept. */
export function begin(after) {
  id("pub-form").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    publish(after);
  });
}
