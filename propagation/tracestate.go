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

	// A list within these is read once and not twice.
	usualTracestate        = 512
	usualTracestateMembers = 8

	// As many members are inserted one by one, which saves the map in which
	// OpenTelemetry's parser keeps the keys, and copies less than that costs.
	fewTracestateMembers = 3
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
// front without "@", more than one "@") are left out; the other members stay. A
// Propagator sends them on nevertheless, see Extraction.Tracestate. Anything else
// that is wrong refuses the whole list. The error is a *HeaderError.
func ParseTracestate(lines ...string) (trace.TraceState, error) {
	ts, _, f := parseTracestate(lines)
	return ts, f.err()
}

// parseTracestate is ParseTracestate without the error value. whole are all members
// where ts could not hold them, "" where it does.
func parseTracestate(lines []string) (ts trace.TraceState, whole string, f fault) {
	if len(lines) == 0 {
		return ts, "", fault{}
	}
	if len(lines) == 1 && len(lines[0]) <= usualTracestate {
		// What OpenTelemetry accepts is right, and it checks for itself; of long lists
		// its parser takes memory before it refuses them.
		switch commas := strings.Count(lines[0], ","); {
		case commas < fewTracestateMembers:
			if ts, ok := insertTracestate(lines[0]); ok {
				return ts, "", fault{}
			}
		case commas < usualTracestateMembers:
			if ts, err := trace.ParseTraceState(lines[0]); err == nil {
				return ts, "", fault{}
			}
		}
	}
	room := maxTracestateBytes
	for _, line := range lines {
		if len(line) > room {
			return ts, "", fault{tracestateHeader.Lower, line, max(0, room), ruleTracestateLen}
		}
		room -= len(line) + 1
	}

	var (
		all    [maxTracestateMembers]string // "key=value"
		keys   [maxTracestateMembers]int    // length of the key in it
		n      int                          // of all
		seen   int                          // members, repeated keys included
		beyond int                          // members of all that TraceState cannot hold
		asIs   = len(lines) == 1            // OpenTelemetry's parser takes the line as it is
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
				return ts, "", fault{tracestateHeader.Lower, line, from, ruleTracestateMembers}
			}
			key, offset, rule := checkTracestateMember(member)
			if rule != "" {
				return ts, "", fault{tracestateHeader.Lower, line, from + offset, rule}
			}
			if containsKey(all[:n], keys[:n], member[:key]) {
				asIs = false
			} else {
				if !holdsTracestateKey(member[:key]) {
					beyond++
					asIs = false
				}
				all[n], keys[n] = member, key
				n++
			}
			at = end + 1
		}
	}
	if beyond > 0 {
		whole = strings.Join(all[:n], ",")
		held := 0
		for i, m := range all[:n] {
			if holdsTracestateKey(m[:keys[i]]) {
				all[held] = m
				held++
			}
		}
		n = held
	}
	if n == 0 {
		return ts, whole, fault{}
	}

	list := lines[0]
	if !asIs {
		list = strings.Join(all[:n], ",")
	}
	ts, err := trace.ParseTraceState(list)
	if err != nil { // a stricter OpenTelemetry than the one of go.mod
		return trace.TraceState{}, "", fault{tracestateHeader.Lower, lines[0], 0, ruleTracestateMember}
	}
	return ts, whole, fault{}
}

// insertTracestate reads line as trace.ParseTraceState does, and is false for what that
// refuses. Members go in from the last to the first, since each becomes the first.
func insertTracestate(line string) (ts trace.TraceState, ok bool) {
	for n, end := 0, len(line); end >= 0; {
		at := end
		eq := -1 // the first "=" of the member
		for ; at > 0 && line[at-1] != ','; at-- {
			if line[at-1] == '=' {
				eq = at - 1
			}
		}
		if at < end { // members of nothing at all are none
			if eq < 0 {
				return trace.TraceState{}, false
			}
			from, _ := trimOWS(line, at, eq)
			_, to := trimOWS(line, eq+1, end)
			var err error
			ts, err = ts.Insert(line[from:eq], line[eq+1:to])
			if n++; err != nil || ts.Len() != n { // a key came twice
				return trace.TraceState{}, false
			}
		}
		end = at - 1
	}
	return ts, true
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

// appendTracestate appends ts as a header value of at most maxTracestateBytes. Where
// it is longer, whole members of more than 128 bytes go, from the end, until it fits
// (Trace Context, tracestate limits). It then always does: 32 shorter ones take half.
func appendTracestate(dst []byte, ts trace.TraceState) []byte {
	if ts.Len() == 0 {
		return dst
	}
	from := len(dst)
	ts.Walk(func(key, value string) bool {
		if len(dst) > from {
			dst = append(dst, ',')
		}
		dst = append(dst, key...)
		dst = append(dst, '=')
		dst = append(dst, value...)
		return true
	})
	size := len(dst) - from
	if size <= maxTracestateBytes {
		return dst
	}
	members := strings.Split(string(dst[from:]), ",")
	for i := len(members) - 1; i >= 0 && size > maxTracestateBytes; i-- {
		if n := len(members[i]); n > longTracestateMember {
			members = slices.Delete(members, i, i+1)
			size -= n + 1
		}
	}
	return append(dst[:from], strings.Join(members, ",")...)
}

// sameTracestate reports whether a and b have the same members in the same order.
func sameTracestate(a, b trace.TraceState) bool {
	n := a.Len()
	if n != b.Len() || n > maxTracestateMembers {
		return false
	}
	var keys, values [maxTracestateMembers]string
	i := 0
	b.Walk(func(key, value string) bool {
		keys[i], values[i] = key, value
		i++
		return true
	})
	i = 0
	same := true
	a.Walk(func(key, value string) bool {
		same = key == keys[i] && value == values[i]
		i++
		return same
	})
	return same
}
