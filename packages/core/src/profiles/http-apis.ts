/**
 * The ways of HTTP APIs that serve no models, as data.
 *
 * Here belongs one entry for each, with its source: mostly what a bare reset means. How it is applied belongs to
 * `ProviderProfile`.
 */
import { usual as usualWays, usualCharging, type Ways } from "../ProviderWays.ts"

/** Such an API limits requests, and nothing else. */
const usual = (name: string, origins: ReadonlyArray<string>, more?: Parameters<typeof usualWays>[2]): Ways =>
  usualWays(name, origins, { limited: ["requests"], charging: { ...usualCharging, admission: "nothing" }, ...more })

/** Their ways. */
export const all: ReadonlyArray<Ways> = [
  // docs.github.com (rate limits of the REST and GraphQL APIs): a throttle is a 403 or a 429, and in GraphQL a 200.
  usual("github", ["api.github.com"], {
    dialect: { windows: { requests: 3600 }, refusals: [429, 403] },
    signs: [{ status: 403, message: /\b(?:API|secondary) rate limit\b/, means: "RateLimited" }]
  }),
  // docs.gitlab.com (rate limits): the names of the IETF's drafts, but the reset is an epoch; per minute.
  usual("gitlab", ["gitlab.com"], { dialect: { windows: { requests: 60 } } }),
  // docs.stripe.com/rate-limits: the reason is in a header, there is no hint.
  usual("stripe", ["api.stripe.com"], { idempotencyHeader: "idempotency-key" }),
  // shopify.dev (rate limits): calls used of those allowed, and in GraphQL a bucket of points.
  usual("shopify", ["*.myshopify.com"]),
  // discord.com/developers (rate limits): a `shared` limit is of the resource, not of the caller.
  usual("discord", ["discord.com"], {
    signs: [{ status: 429, kind: "shared", means: "RateLimited", attribution: "platform" }]
  }),
  // docs.x.com (rate limits): an epoch, windows of 15 minutes.
  usual("x-twitter", ["api.x.com", "api.twitter.com"], {
    aliases: ["twitter", "x"],
    dialect: { windows: { requests: 900 } },
    signs: [{ status: 420, means: "RateLimited" }]
  }),
  // A reported response: seconds; no limit, but what was used, of ten minutes.
  usual("reddit", ["oauth.reddit.com", "www.reddit.com"], { dialect: { windows: { requests: 600 } } }),
  // developer.atlassian.com (rate limiting): a date.
  usual("jira", ["*.atlassian.net"], { aliases: ["atlassian"] }),
  // learn.microsoft.com (throttling in SharePoint): draft 03 of the IETF.
  usual("sharepoint", ["*.sharepoint.com"]),
  // launchdarkly.com (API): an epoch in milliseconds.
  usual("launchdarkly", ["app.launchdarkly.com"]),
  // developers.linear.app (rate limiting): a throttle is a 400 of code `RATELIMITED`; per hour, an epoch in milliseconds.
  usual("linear", ["api.linear.app"], { dialect: { windows: { requests: 3600 } } }),
  // developers.notion.com (errors): 529 is its own capacity.
  usual("notion", ["api.notion.com"], { signs: [{ status: 529, means: "Overloaded" }] }),
  // api.slack.com (rate limits): the error is a word.
  usual("slack", ["slack.com", "*.slack.com"]),
  // developers.cloudflare.com (API limits): the fields of the IETF.
  usual("cloudflare", ["api.cloudflare.com"]),
  // envoyproxy.io (rate limit headers, draft 03): a list of policies in `x-ratelimit-limit`.
  usual("envoy", []),
  // developer.whoop.com (rate limiting): a list of policies, with `window`.
  usual("whoop", ["api.prod.whoop.com"]),
  // A reported response: an object in `x-ratelimit`.
  usual("basecamp", ["basecamp.com", "*.basecampapi.com"]),
  // developer.lemlist.com: a date as JavaScript prints it.
  usual("lemlist", ["api.lemlist.com"]),
  // docs.composio.dev: the window in a header of its own.
  usual("composio", ["backend.composio.dev"]),
  // Prisjakt's API documentation: `X-Rate-Limit-Reset` in milliseconds, which its size does not tell.
  usual("prisjakt", ["api.prisjakt.nu", "*.prisjakt.nu", "*.prisjakt.no"], { dialect: { resetForm: "milliseconds" } }),
  // draft-ietf-httpapi-ratelimit-headers: what a server says that follows it and nothing else.
  usual("ietf", [], { dialect: { spelling: "ietf" } })
]
