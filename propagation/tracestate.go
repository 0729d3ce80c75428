package propagation

import (
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

const (
	maxTracestateBytes   = 8 << 10 // all lines together, commas between them included
	maxTracestateMembers = 32
	maxTracestateKey     = 256
	maxTracestateValue   = 256
	longTracestateMember = 128 // members beyond it go first when too much would be sent
)

const (
	ruleTracestateLen     = "Trace Context, tracestate limits: here at most 8192 bytes over all lines"
	ruleTracestateMembers = "Trace Context, tracestate list: at most 32 list-members"
	ruleTracestateMember  = `Trace Context, tracestate list-member: key "=" value`
	ruleTracestateKey     = "Trace Context, tracestate key: up to 256 of a-z 0-9 _ - * / @, the first a letter or digit"
	ruleTracestateValue   = "Trace Context, tracestate value: 1 to 256 printable ASCII characters without , and ="
)

// ParseTracestate reads the lines of a tracestate header, in the order in which they
// came, as one list by W3C Trace Context Level 2. Limits hold over all lines
// together: 32 members and 8 KiB. Empty members are skipped, of members with one key
// the first, which is the newest, stays.
//
// Keys that Level 2 allows and OpenTelemetry's TraceState cannot hold (a digit in
// front without "@", more than one "@") are left out; the other members stay.
// Anything else that is wrong refuses the whole list. The error is a *HeaderError.
func ParseTracestate(lines ...string) (trace.TraceState, error) {
	ts, f := parseTracestate(lines)
	return ts, f.err()
}

// parseTracestate is ParseTracestate without the error value.
func parseTracestate(lines []string) (trace.TraceState, fault) {
	if len(lines) == 0 {
		return trace.TraceState{}, fault{}
	}
	room := maxTracestateBytes
	for _, line := range lines {
		if len(line) > room {
			return trace.TraceState{}, fault{tracestateHeader.Lower, line, max(0, room), ruleTracestateLen}
		}
		room -= len(line) + 1
	}

	var (
		kept [maxTracestateMembers]string // "key=value"
		keys [maxTracestateMembers]int    // length of the key in it
		n    int                          // of kept
		seen int                          // members, those left out included
		asIs = len(lines) == 1            // OpenTelemetry's parser takes the line as it is
	)
	for _, line := range lines {
		for at := 0; at <= len(line); {
			end := at
			for end < len(line) && line[end] != ',' {
				end++
			}
			from, to := trimOWS(line, at, end)
			if from == to {
				asIs = asIs && at == end // it refuses members of white space
				at = end + 1
				continue
			}
			member := line[from:to]
			if seen++; seen > maxTracestateMembers {
				return trace.TraceState{}, fault{tracestateHeader.Lower, line, from, ruleTracestateMembers}
			}
			key, offset, rule := checkTracestateMember(member)
			if rule != "" {
				return trace.TraceState{}, fault{tracestateHeader.Lower, line, from + offset, rule}
			}
			if holdsTracestateKey(member[:key]) && !containsKey(kept[:n], keys[:n], member[:key]) {
				kept[n], keys[n] = member, key
				n++
			} else {
				asIs = false
			}
			at = end + 1
		}
	}
	if n == 0 {
		return trace.TraceState{}, fault{}
	}

	list := lines[0]
	if !asIs {
		list = strings.Join(kept[:n], ",")
	}
	ts, err := trace.ParseTraceState(list)
	if err != nil { // a stricter OpenTelemetry than the one of go.mod
		return trace.TraceState{}, fault{tracestateHeader.Lower, lines[0], 0, ruleTracestateMember}
	}
	return ts, fault{}
}

// checkTracestateMember returns the length of the key of m, which has no space
// around it, or the rule that m breaks and where.
func checkTracestateMember(m string) (key, offset int, rule string) {
	for ; key < len(m) && m[key] != '='; key++ {
		c := m[key]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
			key > 0 && (c == '_' || c == '-' || c == '*' || c == '/' || c == '@')) || key == maxTracestateKey {
			return 0, key, ruleTracestateKey
		}
	}
	switch {
	case key == len(m):
		return 0, key, ruleTracestateMember
	case key == 0:
		return 0, 0, ruleTracestateKey
	}
	value := m[key+1:]
	if value == "" || len(value) > maxTracestateValue {
		return 0, key + 1 + min(len(value), maxTracestateValue), ruleTracestateValue
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '=' {
			return 0, key + 1 + i, ruleTracestateValue
		}
	}
	return key, 0, ""
}

// holdsTracestateKey reports whether OpenTelemetry's TraceState accepts key, which
// is valid by Level 2. It knows Level 1: simple-key, or tenant "@" system.
func holdsTracestateKey(key string) bool {
	tenant, system, multi := strings.Cut(key, "@")
	if !multi {
		return key[0] >= 'a'
	}
	return len(tenant) <= 241 && 0 < len(system) && len(system) <= 14 &&
		'a' <= system[0] && system[0] <= 'z' && strings.IndexByte(system, '@') < 0
}

// containsKey reports whether one of members has key. There are 32 at most, so no
// map is needed.
func containsKey(members []string, keys []int, key string) bool {
	for i, m := range members {
		if keys[i] == len(key) && m[:len(key)] == key {
			return true
		}
	}
	return false
}

// trimOWS moves from and to inwards over spaces and tabs (RFC 9110, 5.6.3).
func trimOWS(s string, from, to int) (int, int) {
	for from < to && isOWS(s[from]) {
		from++
	}
	for from < to && isOWS(s[to-1]) {
		to--
	}
	return from, to
}

func isOWS(c byte) bool { return c == ' ' || c == '\t' }

// tracestateValue returns ts as a header value of at most maxTracestateBytes. Where
// it is longer, whole members of more than 128 bytes go, from the end, until it fits
// (Trace Context, tracestate limits). It then always does: 32 shorter ones take half.
func tracestateValue(ts trace.TraceState) string {
	s := ts.String()
	if len(s) <= maxTracestateBytes {
		return s
	}
	members := strings.Split(s, ",")
	size := len(s)
	for i := len(members) - 1; i >= 0 && size > maxTracestateBytes; i-- {
		if n := len(members[i]); n > longTracestateMember {
			members = slices.Delete(members, i, i+1)
			size -= n + 1
		}
	}
	return strings.Join(members, ",")
}
