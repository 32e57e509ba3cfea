/**
 * Everything that `@evenkeel/core` offers, by module.
 *
 * Here belongs one line for each public module. Applications that are bundled import the modules themselves
 * (`@evenkeel/core/Pacer`), which pulls in less.
 */
export * as ApiError from "./ApiError.ts"
export * as CallScheduler from "./CallScheduler.ts"
export * as CapacityGuard from "./CapacityGuard.ts"
export * as Credential from "./Credential.ts"
export * as Demand from "./Demand.ts"
export * as DynamicLimit from "./DynamicLimit.ts"
export * as LimitTracker from "./LimitTracker.ts"
export * as Outcome from "./Outcome.ts"
export * as Pace from "./Pace.ts"
export * as PacedHttpClient from "./PacedHttpClient.ts"
export * as PaceError from "./PaceError.ts"
export * as Pacer from "./Pacer.ts"
export * as PaceStore from "./PaceStore.ts"
export * as ProviderProfile from "./ProviderProfile.ts"
export * as RateController from "./RateController.ts"
export * as RateLimitHeaders from "./RateLimitHeaders.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export * as Telemetry from "./Telemetry.ts"
