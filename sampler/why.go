package sampler

import "strconv"

// Why is what settled a decision: the last rule that had a say. Its number may
// change from one version to the next.
type Why uint8

const (
	Undecided        Why = iota // the zero Decision
	HealthCheck                 // D-25: a health check, or a Rule with Drop
	Unused                      // D-2: Config.Use leaves the request id aside, so everything is traced
	NoNumber                    // D-3: the request id has no sampling number
	EarlierHop                  // D-6: the id came with a reason
	ClientJoined                // D-7: x-client-trace-id, within the client share
	Forced                      // D-8: x-envoy-force-trace
	InRandom                    // D-9: within the random share
	NotInRandom                 // D-9: outside of it
	NotInOverall                // D-10: outside the overall share
	TraceInRandom               // D-3, X-13: no sampling number, but the trace id is within the random share
	TraceNotInRandom            // D-3, X-13: nor that
	CallerTraces                // W-13: the caller's flag
	CallerDoesNot               // W-13: the caller's flag
	Vetoed                      // W-14: the caller traces, the shares do not
	BaseTraces                  // W-14: Config.Base says yes
	BaseDoesNot                 // W-14: Config.Base says no
	Denied                      // B-4: B3 says no, without ids
	Debugged                    // B-1: B3 says debug
	Limited                     // PerSecond, of the Config or the Rule
	Refused                     // O-5: a gateway refuses such a request before it looks for a route

	whys // how many there are
)

// String returns one line with the rule that the decision rests on. It does not
// allocate.
func (w Why) String() string {
	switch w {
	case Undecided:
		return "undecided"
	case HealthCheck:
		return "D-25: health check"
	case Unused:
		return "D-2: the request id does not decide"
	case NoNumber:
		return "D-3: the request id has no sampling number"
	case EarlierHop:
		return "D-6: an earlier hop decided"
	case ClientJoined:
		return "D-7: x-client-trace-id"
	case Forced:
		return "D-8: x-envoy-force-trace"
	case InRandom:
		return "D-9: within the random share"
	case NotInRandom:
		return "D-9: outside the random share"
	case NotInOverall:
		return "D-10: outside the overall share"
	case TraceInRandom:
		return "D-3, X-13: no sampling number, trace id within the random share"
	case TraceNotInRandom:
		return "D-3, X-13: no sampling number, trace id outside the random share"
	case CallerTraces:
		return "W-13: the caller traces"
	case CallerDoesNot:
		return "W-13: the caller does not trace"
	case Vetoed:
		return "W-14: the caller traces, the shares here do not"
	case BaseTraces:
		return "W-14: Base traces"
	case BaseDoesNot:
		return "W-14: Base does not trace"
	case Denied:
		return "B-4: the caller's B3 denies"
	case Debugged:
		return "B-1: the caller's B3 says debug"
	case Limited:
		return "PerSecond: too many new traces"
	case Refused:
		return "O-5: refused before any route"
	}
	return "Why(" + strconv.Itoa(int(w)) + ")"
}
