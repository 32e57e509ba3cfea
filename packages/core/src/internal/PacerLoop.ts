/**
 * The machine behind `Pacer`: keys, their timers, and each call's way from offer to settlement.
 *
 * Here belongs what waits, wakes and talks to the store. What may start is `PacedKey`'s arithmetic. All of it belongs to
 * one pacer in one thread, and is reached only through the service.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Random from "effect/Random"
import type * as CallScheduler from "../CallScheduler.ts"
import { type Cost, type Demand, type Key, oneRequest } from "../Demand.ts"
import * as Outcome from "../Outcome.ts"
import * as PaceError from "../PaceError.ts"
import type * as PaceStore from "../PaceStore.ts"
import type * as RateController from "../RateController.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type * as Telemetry from "../Telemetry.ts"
import * as PacedKey from "./PacedKey.ts"

/**
 * One attempt of a call, as the effect that makes it sees it.
 *
 * **Details**
 *
 * `verdict` teaches what the headers said as soon as they are there; without it the exit is interpreted. `revise` takes it
 * back, where the body of what was accepted is a refusal after all. `used` says what the call really used, and what of that
 * counts against the limit, where that is not all. `hold` keeps the place and the reservation of an accepted attempt until
 * they are settled, for a body that is read after the effect has ended; one that nobody touches for five minutes is settled.
 */
export interface Attempt {
  readonly number: number
  readonly verdict: (outcome: Outcome.Outcome) => void
  readonly revise: (outcome: Outcome.Outcome) => void
  readonly used: (cost: Partial<Cost>, charged?: Partial<Cost>) => void
  readonly hold: () => Held
}

/** A reservation kept past the end of the attempt. `failure` is the reason of an error that came within the body. */
export interface Held {
  readonly touch: () => void
  readonly used: (cost: Partial<Cost>, charged?: Partial<Cost>) => void
  readonly settle: (failure?: string) => void
}

/** What a loop is made of. */
export interface Services {
  readonly store: PaceStore.PaceStore["Service"]
  readonly telemetry: Telemetry.Telemetry["Service"]
  readonly controller: RateController.RateController
  readonly scheduler: CallScheduler.CallScheduler
  readonly policy: RetryPolicy.RetryPolicy
  readonly random: Random.Random
  readonly clock: Clock.Clock
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

/** The bounds of a loop, resolved. */
export interface Bounds {
  readonly maxKeys: number
  readonly maxWaiting: number
  readonly idleMillis: number
}

interface Timer {
  readonly atMillis: number
  readonly fiber: Fiber.Fiber<void>
}

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** One call on its way: what it is, how it is tried and understood, and where it may be interrupted. */
interface Passage<A, E, R> {
  readonly key: PacedKey.PacedKey
  readonly call: PacedKey.Call
  readonly make: (attempt: Attempt) => Effect.Effect<A, E, R>
  readonly interpret: (exit: Exit.Exit<A, E>) => Outcome.Outcome
  readonly restore: Restore
}

/** The running pacer: its keys, their timers, and the steps from offer to settlement. */
export class PacerLoop {
  readonly services: Services
  readonly bounds: Bounds
  readonly keys = new Map<string, PacedKey.PacedKey>()
  readonly timers = new Map<PacedKey.PacedKey, Timer>()
  readonly renewals = new Set<PacedKey.PacedKey>()
  readonly refused: PacedKey.RefusedCredentials = new Map()
  readonly holder: string
  waiting = 0
  sequence = 0
  closed = false

  constructor(services: Services, bounds: Bounds) {
    this.services = services
    this.bounds = bounds
    this.holder = `${pacers++}-${services.random.nextIntUnsafe().toString(36)}`
  }

  now(): number {
    return Number(this.services.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  run<A, E, R>(
    demand: Demand,
    make: (attempt: Attempt) => Effect.Effect<A, E, R>,
    interpret: (exit: Exit.Exit<A, E>) => Outcome.Outcome
  ): Effect.Effect<A, E | PaceError.PaceError, R> {
    return Effect.uninterruptibleMask((restore) => {
      if (this.closed) return notSent(demand.key, pacerClosed)
      const key = this.keyOf(demand.key)
      if (key === undefined) {
        return notSent(demand.key, new PaceError.TooManyKeys({ capacity: this.bounds.maxKeys }))
      }
      key.counts.calls++
      const call = PacedKey.newCall(demand, this.sequence++, this.now())
      return this.offer({ key, call, make, interpret, restore })
    })
  }

  readonly snapshot: Effect.Effect<Telemetry.Snapshot> = Effect.sync(() => {
    const now = this.now()
    return { atMillis: now, keys: [...this.keys.values()].map((key) => PacedKey.snapshot(key, now)) }
  })

  /** Starts the call at once where nothing stands in its way, else queues it. */
  offer<A, E, R>(passage: Passage<A, E, R>): Effect.Effect<A, E | PaceError.PaceError, R> {
    const { call, key } = passage
    const now = this.now()
    const refusal = PacedKey.refusal(key, call, now)
    if (refusal !== undefined) return this.unsent(key, call, refusal)
    this.renewIfDue(key, now)
    // Nobody waits, so what somebody waited for before does not count as what held this call back.
    if (key.queue.size() === 0) key.binding = undefined
    if (key.queue.size() === 0 && PacedKey.delayMillis(key, call, now) === 0) {
      this.start(key, call, now)
      return this.attempt(passage)
    }
    if (this.waiting >= this.bounds.maxWaiting) {
      return this.unsent(key, call, new PaceError.QueueFull({ capacity: this.bounds.maxWaiting }))
    }
    return this.waitFor(passage, () => this.enqueue(key, call, this.now()))
  }

  /** Waits until the call is started, refused, or interrupted; then makes its attempt. */
  waitFor<A, E, R>(
    passage: Passage<A, E, R>,
    begin: () => void
  ): Effect.Effect<A, E | PaceError.PaceError, R> {
    const { call, key, restore } = passage
    this.waiting++
    const wait = Effect.callback<void, PaceError.PaceError>((resume) => {
      call.resume = (refusal) => {
        call.resume = undefined
        resume(refusal === undefined ? Effect.void : this.unsent(key, call, refusal))
      }
      begin()
    })
    const turn = Effect.onExitPrimitive(restore(wait), (exit) => {
      this.waiting--
      if (Exit.isFailure(exit) && call.phase !== "ended") this.abandon(key, call)
      return undefined
    })
    return Effect.flatMap(turn, () => this.attempt(passage))
  }

  enqueue(key: PacedKey.PacedKey, call: PacedKey.Call, now: number): void {
    call.phase = "waiting"
    call.queuedAtMillis = now
    key.queue.offer(call)
    if (call.deadlineAtMillis !== Infinity) key.deadlines.add(call)
    if (this.services.telemetry.isHeard()) {
      this.emit({ _tag: "CallQueued", ...this.about(key, now), call: call.sequence, waiting: key.queue.size() })
    }
    this.pump(key, now)
  }

  /** Forgets a call whose fiber was interrupted. */
  abandon(key: PacedKey.PacedKey, call: PacedKey.Call): void {
    call.resume = undefined
    if (call.phase === "started") PacedKey.unstart(key, call)
    else this.leave(key, call)
    this.ended(key, call, "interrupted")
    this.pump(key, this.now())
  }

  leave(key: PacedKey.PacedKey, call: PacedKey.Call): void {
    if (call.phase === "waiting") key.queue.remove(call)
    if (call.phase === "backingOff") key.backoffs.remove(call)
    key.deadlines.remove(call)
    call.phase = "ended"
  }

  /**
   * Pumps until nothing more may happen. A call that starts runs at once and may end within the pump that started it:
   * what it asks for is then done by another round, or a long queue would exhaust the stack.
   */
  pump(key: PacedKey.PacedKey, now: number): void {
    key.pumpAgain = true
    if (key.pumping) return
    key.pumping = true
    try {
      for (let at = now; key.pumpAgain && !this.closed; at = this.now()) {
        key.pumpAgain = false
        this.pumpOnce(key, at)
      }
    } finally {
      key.pumping = false
    }
  }

  /** Lets everything start that may, refuses what is too late, and sets the timer for what comes next. */
  pumpOnce(key: PacedKey.PacedKey, now: number): void {
    if (key.controller.wakeAtMillis(key.state) <= now) this.tell(key, { _tag: "Woke" }, now)
    if (key.closed !== undefined && key.closed.untilMillis <= now) {
      key.closed = undefined
      this.emit({ _tag: "KeyOpened", ...this.about(key, now) })
    }
    this.settleUnread(key, now)
    if (this.refuseLate(key, (deadlineAtMillis) => deadlineAtMillis < now)) return
    for (let call = key.backoffs.first(); call !== undefined && call.dueAtMillis <= now; call = key.backoffs.first()) {
      key.backoffs.remove(call)
      call.phase = "waiting"
      call.queuedAtMillis = now
      key.queue.offer(call)
    }
    this.renewIfDue(key, now)
    let delay = Infinity
    for (let call = key.queue.first(); call !== undefined; call = key.queue.first()) {
      delay = PacedKey.delayMillis(key, call, now)
      if (delay > 0) break
      key.queue.remove(call)
      key.deadlines.remove(call)
      this.start(key, call, now)
      call.resume?.(undefined)
      delay = Infinity
    }
    // A call may start at its deadline; one that did not is too late, and whoever it held up may be next.
    if (this.refuseLate(key, (deadlineAtMillis) => deadlineAtMillis <= now)) return
    this.setTimer(key, Math.min(now + delay, this.nextEvent(key)), now)
  }

  start(key: PacedKey.PacedKey, call: PacedKey.Call, now: number): void {
    const binding = key.binding
    const queued = call.queuedAtMillis
    const reason = PacedKey.start(key, call, now)
    if (this.services.telemetry.isHeard()) {
      this.emit({
        _tag: "CallStarted",
        ...this.about(key, now),
        call: call.sequence,
        attempt: call.attempt,
        waitedMillis: now - queued,
        binding: binding ?? null
      })
    }
    if (reason !== undefined) this.paceChanged(key, reason, now)
  }

  /** Makes one attempt and decides what follows. */
  attempt<A, E, R>(passage: Passage<A, E, R>): Effect.Effect<A, E | PaceError.PaceError, R> {
    const { call, interpret, key, make, restore } = passage
    return Effect.suspend(() => {
      const reservation = PacedKey.reserve(call, this.now())
      let held = false
      const handle: Attempt = {
        number: call.attempt,
        verdict: (outcome) => this.verdict(key, reservation, outcome),
        revise: (outcome) => this.verdict(key, reservation, outcome, true),
        used: (cost, charged) => PacedKey.use(reservation, cost, charged),
        hold: () => {
          held = true
          return this.hold(key, reservation)
        }
      }
      const body = restore(Effect.suspend(() => make(handle)))
      return Effect.flatMap(Effect.exit(body), (exit) => {
        let outcome: Outcome.Outcome
        try {
          outcome = interpret(exit)
        } catch (defect) {
          this.verdict(key, reservation, Outcome.unknown())
          this.settle(key, reservation, false)
          this.ended(key, call, "not understood")
          return Effect.die(defect)
        }
        this.verdict(key, reservation, outcome)
        reservation.call.last = outcome
        // Before the place is given back, or the next call would take it.
        if (outcome.closes !== undefined) this.close(key, call, outcome, outcome.closes)
        if (!held || Exit.isFailure(exit) || outcome._tag !== "Accepted") this.settle(key, reservation, false)
        if (Exit.hasInterrupts(exit)) {
          this.ended(key, call, "interrupted")
          return exit
        }
        return this.again(passage, outcome, exit)
      })
    })
  }

  /** Tries again after a delay, or ends with the exit as it was. */
  again<A, E, R>(
    passage: Passage<A, E, R>,
    outcome: Outcome.Outcome,
    exit: Exit.Exit<A, E>
  ): Effect.Effect<A, E | PaceError.PaceError, R> {
    const { call, key } = passage
    const now = this.now()
    call.phase = "backingOff"
    const decision = RetryPolicy.decide(this.services.policy, call.attempts, outcome, {
      idempotent: call.demand.idempotent,
      chance: outcome._tag === "Accepted" ? 0 : this.services.random.nextDoubleUnsafe()
    })
    if (decision._tag === "Stop") {
      call.phase = "ended"
      this.ended(key, call, decision.reason)
      return exit
    }
    if (this.closed) return this.unsent(key, call, pacerClosed)
    const [allowance, extraMillis] = RetryPolicy.draw(key.allowance, now)
    call.dueAtMillis = now + decision.delayMillis + extraMillis
    const refusal = PacedKey.refusal(key, call, now, call.dueAtMillis)
    if (refusal !== undefined) return this.unsent(key, call, refusal)
    key.allowance = allowance
    key.counts.retries++
    if (outcome._tag === "Unknown") key.counts.possiblyBilledTwice++
    call.attempts = decision.attempts
    if (this.services.telemetry.isHeard()) {
      this.emit({
        _tag: "RetryScheduled",
        ...this.about(key, now),
        call: call.sequence,
        delayMillis: call.dueAtMillis - now,
        reason: decision.reason
      })
    }
    return this.waitFor(passage, () => {
      key.backoffs.add(call)
      if (call.deadlineAtMillis !== Infinity) key.deadlines.add(call)
      this.pump(key, this.now())
    })
  }

  verdict(key: PacedKey.PacedKey, reservation: PacedKey.Reservation, outcome: Outcome.Outcome, revises = false): void {
    const isDue = revises ? reservation.verdict?._tag === "Accepted" : reservation.verdict === undefined
    if (!isDue) return
    const now = this.now()
    const reason = PacedKey.takeVerdict(key, reservation, outcome, now)
    this.services.telemetry.attempted(reservation.call.demand, outcome, revises)
    if (this.services.telemetry.isHeard()) {
      this.emit({
        _tag: "Verdict",
        ...this.about(key, now),
        call: reservation.call.sequence,
        outcome: outcome._tag,
        dimension: outcome.dimension ?? null,
        latencyMillis: now - reservation.sentAtMillis
      })
    }
    if (reason !== undefined) this.paceChanged(key, reason, now)
    if (key.queue.size() > 0) this.pump(key, now)
  }

  settle(key: PacedKey.PacedKey, reservation: PacedKey.Reservation, unread: boolean, failure?: string): void {
    if (reservation.settled) return
    const now = this.now()
    const used = PacedKey.settle(key, reservation, now)
    // What nobody told is an estimate for the pace, and no figure for the books.
    const told = reservation.used === undefined && reservation.verdict?._tag !== "Accepted" ? oneRequest : used
    this.services.telemetry.used(reservation.call.demand, told)
    if (this.services.telemetry.isHeard()) {
      this.emit({
        _tag: "CallSettled",
        ...this.about(key, now),
        call: reservation.call.sequence,
        reserved: reservation.cost,
        used,
        unread,
        failure: failure ?? null
      })
    }
    if (key.queue.size() > 0) this.pump(key, now)
  }

  hold(key: PacedKey.PacedKey, reservation: PacedKey.Reservation): Held {
    reservation.touchedAtMillis = this.now()
    key.held.add(reservation)
    this.setTimer(key, this.nextEvent(key), this.now())
    return {
      touch: () => {
        reservation.touchedAtMillis = this.now()
        if (key.held.delete(reservation)) key.held.add(reservation)
      },
      used: (cost, charged) => PacedKey.use(reservation, cost, charged),
      settle: (failure) => this.settle(key, reservation, false, failure)
    }
  }

  /** A body that nobody touches for too long gives its place back. */
  settleUnread(key: PacedKey.PacedKey, now: number): void {
    for (const reservation of key.held) {
      if (reservation.touchedAtMillis + this.bounds.idleMillis > now) return
      this.settle(key, reservation, true)
    }
  }

  /** Refuses the call with the earliest deadline if that is late, and asks for another round. */
  refuseLate(key: PacedKey.PacedKey, isLate: (deadlineAtMillis: number) => boolean): boolean {
    const call = key.deadlines.first()
    if (call === undefined || !isLate(call.deadlineAtMillis)) return false
    key.pumpAgain = true
    this.leave(key, call)
    call.resume?.(new PaceError.TooLate({ waitedMillis: this.now() - call.arrivedAtMillis, last: call.last }))
    return true
  }

  /** Closes the key or the credential, and refuses what can not wait. A key of calls without a model is of many models. */
  close(
    key: PacedKey.PacedKey,
    call: PacedKey.Call,
    outcome: Outcome.Outcome,
    closure: Outcome.Closure
  ): void {
    if (closure.reason === "unknown model" && key.key.model === "") return
    const now = this.now()
    if (closure.scope === "credential") {
      if (this.refused.size >= maxRefusedCredentials) this.refused.delete(this.refused.keys().next().value!)
      this.refused.set(PacedKey.credentialId(key.key, call.demand.credential), outcome)
    } else {
      key.closed = { reason: closure.reason, untilMillis: now + closure.forMillis, last: outcome }
      key.gateUntilMillis = Math.max(key.gateUntilMillis, key.closed.untilMillis)
    }
    this.emit({
      _tag: "KeyClosed",
      ...this.about(key, now),
      scope: closure.scope,
      reason: closure.reason,
      forMillis: Number.isFinite(closure.forMillis) ? closure.forMillis : null
    })
    for (const other of closure.scope === "credential" ? this.keys.values() : [key]) {
      for (const waiting of [...other.queue.waiting(), ...other.backoffs.elements()]) {
        const refusal = PacedKey.refusal(other, waiting, now)
        if (refusal === undefined) continue
        this.leave(other, waiting)
        waiting.resume?.(refusal)
      }
      this.pump(other, now)
    }
  }

  // Keys: made at first use, forgotten when idle, each with a share borrowed from the store.

  keyOf(name: Key): PacedKey.PacedKey | undefined {
    const found = this.keys.get(name.id)
    if (found !== undefined) return found
    const now = this.now()
    if (this.keys.size >= this.bounds.maxKeys && !this.evictIdle(now)) return undefined
    const key = PacedKey.make(name, this.services.controller, this.services.scheduler.make(), this.refused, now)
    this.keys.set(name.id, key)
    this.renew(key)
    return key
  }

  /** Forgets keys that have been idle for long enough, or at least the one idle for longest; says whether there was one. */
  evictIdle(now: number): boolean {
    const idle = [...this.keys.values()]
      .filter((key) => PacedKey.isIdle(key, now))
      .sort((a, b) => a.usedAtMillis - b.usedAtMillis)
    for (const [i, key] of idle.entries()) {
      if (i > 0 && now - key.usedAtMillis < this.bounds.idleMillis) break
      this.keys.delete(key.key.id)
      this.stopTimer(key)
      this.services.fork(this.giveBack(key))
      this.emit({ _tag: "KeyEvicted", ...this.about(key, now) })
    }
    return idle.length > 0
  }

  /**
   * Asks for the share again half-way through its lease. The lease itself is checked at the start of each call, by both
   * clocks: a machine that slept asks before it spends.
   */
  renewIfDue(key: PacedKey.PacedKey, now: number): void {
    if (now < key.renewAtMillis) return
    if (now >= key.leaseEndsAtMillis || this.services.clock.currentTimeMillisUnsafe() >= key.leaseEndsAtWallMillis) {
      key.ready = false
    }
    this.renew(key)
  }

  /** Publishes what was learned, then borrows. */
  renew(key: PacedKey.PacedKey): void {
    if (this.closed || this.renewals.has(key)) return
    this.renewals.add(key)
    // A lease is as long as the store says from when it was asked: what the answer took is not added.
    const asked = { atMillis: this.now(), atWallMillis: this.services.clock.currentTimeMillisUnsafe() }
    const borrow = Effect.flatMap(this.publish(key), () =>
      this.services.store.borrow(key.key, {
        holder: this.holder,
        held: key.share,
        demand: PacedKey.demandOf(key, this.now()),
        recall: () => this.renew(key)
      }))
    this.services.fork(Effect.matchCause(borrow, {
      onSuccess: (loan) => this.borrowed(key, loan, asked),
      onFailure: (cause) => this.storeLost(key, Cause.squash(cause))
    }))
  }

  publish(key: PacedKey.PacedKey): Effect.Effect<void, PaceError.PaceError> {
    const learned = key.learnedSomething ? key.controller.learned(key.state) : undefined
    if (learned === undefined) return Effect.void
    return Effect.map(this.services.store.publish(key.key, key.epoch, learned), (published) => {
      key.learnedSomething = false
      if (published._tag === "Accepted") key.epoch = published.epoch
      else this.adopt(key, published.lesson)
    })
  }

  adopt(key: PacedKey.PacedKey, lesson: PaceStore.Lesson): void {
    if (lesson.epoch === key.epoch) return
    key.epoch = lesson.epoch
    if (lesson.learned === undefined) return
    key.state = key.controller.adopt(key.state, lesson.learned, this.now())
    key.pace = key.controller.pace(key.state)
  }

  borrowed(
    key: PacedKey.PacedKey,
    loan: PaceStore.Loan,
    asked: { readonly atMillis: number; readonly atWallMillis: number }
  ): void {
    this.renewals.delete(key)
    const now = this.now()
    if (storeIsLost(key)) this.emit({ _tag: "StoreBack", ...this.about(key, now) })
    const first = key.holders === 0
    if (first && loan.learned !== undefined) {
      key.state = key.controller.start(now, loan.learned, loan.ageMillis)
      key.pace = key.controller.pace(key.state)
      key.epoch = loan.epoch
    } else this.adopt(key, loan)
    if (!first && (loan.share !== key.share || loan.holders !== key.holders)) {
      this.emit({ _tag: "ShareChanged", ...this.about(key, now), share: loan.share, holders: loan.holders })
    }
    key.share = loan.share
    key.holders = loan.holders
    key.leaseEndsAtMillis = asked.atMillis + loan.validForMillis
    key.renewAtMillis = asked.atMillis + loan.validForMillis / 2
    key.leaseEndsAtWallMillis = asked.atWallMillis + loan.validForMillis
    key.ready = true
    this.pump(key, now)
  }

  /** Without a share ever borrowed nothing may be sent; with one, go on with what is safe and ask again. */
  storeLost(key: PacedKey.PacedKey, cause: unknown): void {
    this.renewals.delete(key)
    const now = this.now()
    if (!storeIsLost(key)) this.emit({ _tag: "StoreLost", ...this.about(key, now) })
    if (key.holders === 0) {
      this.keys.delete(key.key.id)
      key.storeFailure = new PaceError.StoreUnavailable({ cause })
      for (const call of key.queue.waiting().slice()) {
        this.leave(key, call)
        call.resume?.(key.storeFailure)
      }
      return
    }
    key.share = Math.min(key.share, 1 / key.holders)
    key.leaseEndsAtMillis = Infinity
    key.renewAtMillis = now + storeRetryMillis
    key.leaseEndsAtWallMillis = Infinity
    key.ready = true
    this.pump(key, now)
  }

  giveBack(key: PacedKey.PacedKey): Effect.Effect<void> {
    return Effect.andThen(Effect.ignore(this.publish(key)), this.services.store.giveBack(key.key, this.holder))
  }

  // Timers: one for each key, for the earliest of what may happen next.

  nextEvent(key: PacedKey.PacedKey): number {
    const oldest = key.held.values().next()
    return Math.min(
      key.deadlines.first()?.deadlineAtMillis ?? Infinity,
      key.backoffs.first()?.dueAtMillis ?? Infinity,
      key.controller.wakeAtMillis(key.state),
      (key.queue.size() > 0 || key.inFlight > 0) && !this.renewals.has(key) ? key.renewAtMillis : Infinity,
      oldest.done === true ? Infinity : oldest.value.touchedAtMillis + this.bounds.idleMillis
    )
  }

  setTimer(key: PacedKey.PacedKey, atMillis: number, now: number): void {
    const timer = this.timers.get(key)
    if (timer !== undefined) {
      if (timer.atMillis <= atMillis) return
      this.stopTimer(key)
    }
    if (atMillis === Infinity || this.closed) return
    // Rounded up to a microsecond, and at least one, so that a timer never fires just before its instant and spins, and
    // never within the fork that starts it.
    const millis = Math.min(maxTimerMillis, Math.max(1, Math.ceil((atMillis - now) * 1000)) / 1000)
    const sleep = Effect.flatMap(this.services.clock.sleep(Duration.millis(millis)), () =>
      Effect.sync(() => {
        this.timers.delete(key)
        this.pump(key, this.now())
      }))
    this.timers.set(key, { atMillis: now + millis, fiber: this.services.fork(sleep) })
  }

  stopTimer(key: PacedKey.PacedKey): void {
    const timer = this.timers.get(key)
    if (timer === undefined) return
    this.timers.delete(key)
    timer.fiber.interruptUnsafe()
  }

  /** Ends everything: what waits is refused, what was learned is published, shares go back. */
  end(): Effect.Effect<void> {
    this.closed = true
    for (const key of this.keys.values()) {
      this.stopTimer(key)
      for (const call of [...key.queue.waiting(), ...key.backoffs.elements()]) {
        this.leave(key, call)
        call.resume?.(pacerClosed)
      }
    }
    return Effect.forEach([...this.keys.values()], (key) => this.giveBack(key), { discard: true })
  }

  // Telling what happened.

  tell(key: PacedKey.PacedKey, event: RateController.Event, now: number): void {
    const reason = PacedKey.advance(key, event, now)
    if (reason !== undefined) this.paceChanged(key, reason, now)
  }

  unsent(key: PacedKey.PacedKey, call: PacedKey.Call, reason: PaceError.Reason) {
    key.counts.unsent++
    call.phase = "ended"
    this.ended(key, call, reason._tag)
    return notSent(key.key, reason)
  }

  about(key: PacedKey.PacedKey, now: number): { readonly atMillis: number; readonly key: string } {
    return { atMillis: now, key: key.key.id }
  }

  emit(event: Telemetry.Event): void {
    this.services.telemetry.emit(event)
  }

  ended(key: PacedKey.PacedKey, call: PacedKey.Call, reason: string): void {
    if (this.services.telemetry.isHeard()) {
      this.emit({ _tag: "CallEnded", ...this.about(key, this.now()), call: call.sequence, reason })
    }
  }

  paceChanged(key: PacedKey.PacedKey, reason: string, now: number): void {
    if (!this.services.telemetry.isHeard()) return
    const { capacityPerSecond, requestsPerSecond, tokensPerSecond } = PacedKey.snapshot(key, now)
    this.emit({
      _tag: "PaceChanged",
      ...this.about(key, now),
      requestsPerSecond,
      tokensPerSecond,
      capacityPerSecond,
      reason
    })
  }
}

/** Its share has no end, and yet is to be asked for again. */
const storeIsLost = (key: PacedKey.PacedKey): boolean =>
  key.leaseEndsAtMillis === Infinity && key.renewAtMillis !== Infinity

const notSent = (key: Key, reason: PaceError.Reason) => Effect.fail(new PaceError.PaceError({ key, reason }))

const pacerClosed = new PaceError.Closed({
  scope: "pacer",
  reason: "its scope ended",
  forMillis: Infinity,
  last: undefined
})

/** Pacers made in this process: with a random part it names each as a holder of shares. */
let pacers = 0

/** Credentials remembered as refused; past it the oldest is forgotten, and would be refused again. */
const maxRefusedCredentials = 10_000

/** Without the store, how often it is asked again, ms. */
const storeRetryMillis = 1_000

/** The longest delay that a timer can hold, ms. */
const maxTimerMillis = 2 ** 31 - 1
