// The same visits for k6, for those who have it: k6 run -e URL=http://127.0.0.1:8000 tests/load/k6.js
//
// An *open* model: arrivals at a constant rate, whether or not earlier ones were answered. Unlike
// `shortlist load`, k6 measures from the actual send, and arrivals beyond maxVUs are dropped: look at
// dropped_iterations before believing a percentile.
import http from "k6/http";
import { check } from "k6";

const url = __ENV.URL || "http://127.0.0.1:8000";
const json = { headers: { "Content-Type": "application/json" } };

export const options = {
  scenarios: {
    visits: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 80), // reads per second; a quarter of them are followed by a click
      timeUnit: "1s",
      duration: __ENV.DURATION || "30s",
      preAllocatedVUs: 50,
      maxVUs: 800,
    },
  },
  thresholds: { http_req_failed: ["rate==0"], dropped_iterations: ["count==0"] },
};

export default function () {
  const user_id = `load-${Math.min(Math.floor(1 / Math.random()), 1000)}`;
  const answer = http.post(`${url}/v1/recommendations`, JSON.stringify({ user_id }), json);
  if (!check(answer, { "a slate": (r) => r.status === 200 }) || Math.random() > 0.25) return;
  const slate = answer.json();
  if (slate.items.length === 0) return;
  const shown = slate.items[Math.floor(Math.random() * slate.items.length)];
  const click = {
    event_id: `${slate.request_id}-click`, event_type: "click", user_id,
    item_id: shown.item_id, request_id: slate.request_id, position: shown.position,
  };
  check(http.post(`${url}/v1/events`, JSON.stringify(click), json), { "202": (r) => r.status === 202 });
}
