package envoymodel

// decide computes the reason of a request on a listener with a tracing block
// and writes its digit.
func (l Listener) decide(h Header, route Route, clientDraw uint64) Reason {
	if l.SampleByRequestIDOff {
		return Sampling // D-2: nothing else is asked, nothing written
	}
	number, ok := samplingNumber(h)
	if !ok {
		return NotTraceable // D-3
	}
	result := number % 10_000 // D-4
	shares := l.shares(route)

	reason := l.readReason(h)
	if reason == NotTraceable { // otherwise D-6: an earlier hop has decided
		// D-11: presence counts. D-12: a lost client check goes on to D-8 and D-9.
		switch {
		case h.has("x-client-trace-id") && shares.client.passes(clientDraw): // D-7, D-13
			reason = ClientForced
		case h.has(l.envoyHeader("force-trace")): // D-8
			reason = ServiceForced
		case shares.random.passes(result): // D-9
			reason = Sampling
		}
		if reason != NotTraceable {
			l.writeReason(h, reason)
		}
	}
	if reason != NotTraceable && !shares.overall.passes(result) { // D-10
		reason = NotTraceable
		l.writeReason(h, NotTraceable)
	}
	return reason
}

// shouldTrace is D-25.
func shouldTrace(reason Reason) bool {
	return reason == ClientForced || reason == ServiceForced || reason == Sampling
}

// decorate treats x-envoy-decorator-operation of the request, by the rules that
// name a span.
func (l Listener) decorate(h Header, route Route) {
	if l.Tracing.Operation || route.Tracing != nil && route.Tracing.Operation {
		return // N-15
	}
	name := l.envoyHeader("decorator-operation")
	if !l.Egress {
		h.remove(name) // N-5 to N-9
		return
	}
	if d := route.Decorator; d != nil && !d.PropagateOff {
		h.set(name, d.Operation) // N-10
	} // otherwise N-11: left as it is, also what an earlier route wrote (N-17)
}
