package propagation

import "strings"

const (
	ruleValidTracestateKey   = `Trace Context Level 1, key: a-z first, or tenant "@" system, of a-z 0-9 _ - * /; at most 256 bytes, 241 and 14`
	ruleValidTracestateValue = "Trace Context, tracestate value: at most 256 printable ASCII characters without , and ="
	ruleValidTracestateOnce  = "Trace Context, tracestate list: each key once"
	ruleValidBaggageMember   = "Baggage, list: members are not empty"
	ruleValidBaggageValue    = "Baggage, value: printable ASCII without space, comma, semicolon, quote and backslash"
)

// ValidateTraceparent returns nil when v is a traceparent by W3C Trace Context: what
// ParseTraceparent accepts. The three Validate functions are the strict checker that
// Envoy applies to what strangers wrote into a message's body
// (source/common/tracing/tracing_validation.cc), for carriers that are no headers. An
// accepted value costs no allocation. The error is a *HeaderError.
func ValidateTraceparent(v string) error {
	_, err := ParseTraceparent(v)
	return err
}

// ValidateTracestate returns nil when lines, taken as one list, are a tracestate by
// W3C Trace Context Level 1: at most 32 members, empty ones included; keys of 256
// bytes, or a tenant of 241 and a system of 14, each key once; values of 256 bytes,
// which may be empty. All together have at most 8 KiB. No line, and an empty one, is
// valid. It is stricter than ParseTracestate with keys, and allows values without
// anything in them. It does not allocate for what it accepts. The error is a
// *HeaderError.
func ValidateTracestate(lines ...string) error {
	var (
		keys [maxTracestateMembers]string
		n    int // of keys
		seen int // members, empty ones included
		room = maxTracestateBytes
	)
	for _, line := range lines {
		if len(line) > room {
			return fault{tracestateHeader.Lower, line, max(0, room), ruleTracestateLen}.err()
		}
		room -= len(line) + 1
		for at := 0; at <= len(line); {
			end := at + index(line[at:], ',')
			if seen++; seen > maxTracestateMembers {
				return fault{tracestateHeader.Lower, line, at, ruleTracestateMembers}.err()
			}
			from, to := trimOWS(line, at, end)
			at = end + 1
			if from == to {
				continue
			}
			key := from + index(line[from:to], '=')
			if key == to {
				return fault{tracestateHeader.Lower, line, from, ruleTracestateMember}.err()
			}
			if offset, ok := validTracestateKey(line[from:key]); !ok {
				return fault{tracestateHeader.Lower, line, from + offset, ruleValidTracestateKey}.err()
			}
			if offset, ok := validTracestateValue(line[key+1 : to]); !ok {
				return fault{tracestateHeader.Lower, line, key + 1 + offset, ruleValidTracestateValue}.err()
			}
			for _, k := range keys[:n] {
				if k == line[from:key] {
					return fault{tracestateHeader.Lower, line, from, ruleValidTracestateOnce}.err()
				}
			}
			keys[n] = line[from:key]
			n++
		}
	}
	return nil
}

// index returns where c first stands in s, the length of s when it does not.
func index(s string, c byte) int {
	if i := strings.IndexByte(s, c); i >= 0 {
		return i
	}
	return len(s)
}

// validTracestateKey tells whether key is a simple-key or a multi-tenant-key, and else
// where it is not.
func validTracestateKey(key string) (offset int, ok bool) {
	const maxTenant, maxSystem = 241, 14
	at := strings.IndexByte(key, '@')
	if at < 0 {
		return validKeyPart(key, maxTracestateKey, false)
	}
	if offset, ok = validKeyPart(key[:at], maxTenant, true); !ok {
		return offset, false
	}
	offset, ok = validKeyPart(key[at+1:], maxSystem, false)
	return at + 1 + offset, ok
}

// validKeyPart tells whether part is of at most limit bytes and begins with a letter, or
// with digit with a digit.
func validKeyPart(part string, limit int, digit bool) (offset int, ok bool) {
	for i := range len(part) {
		c := part[i]
		letter := 'a' <= c && c <= 'z' || digit && '0' <= c && c <= '9'
		if i == limit || !letter && (i == 0 || !('0' <= c && c <= '9' || c == '_' || c == '-' || c == '*' || c == '/')) {
			return i, false
		}
	}
	return 0, part != ""
}

func validTracestateValue(v string) (offset int, ok bool) {
	for i := range len(v) {
		if c := v[i]; i == maxTracestateValue || c < ' ' || c > '~' || c == ',' || c == '=' {
			return i, false
		}
	}
	return 0, true
}

// ValidateBaggage returns nil when lines, taken as one list, are a baggage by W3C
// Baggage: at most 8,192 bytes and 64 members, none of them empty, each a token, "=" and
// a value, with properties that are not empty either. No line, and a single empty one,
// is valid. Values are not decoded. It does not allocate for what it accepts. The error
// is a *HeaderError, about the first fault.
func ValidateBaggage(lines ...string) error {
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	room, seen := maxBaggageBytes, 0
	for _, line := range lines {
		if len(line) > room {
			return fault{baggageHeader.Lower, line, max(0, room), ruleBaggageLen}.err()
		}
		room -= len(line) + 1
		for at := 0; at <= len(line); {
			end := at + index(line[at:], ',')
			if seen++; seen > maxBaggageMembers {
				return fault{baggageHeader.Lower, line, at, ruleBaggageMembers}.err()
			}
			if offset, rule := validBaggageMember(line[at:end]); rule != "" {
				return fault{baggageHeader.Lower, line, at + offset, rule}.err()
			}
			at = end + 1
		}
	}
	return nil
}

// validBaggageMember returns the rule that m breaks and where, "" when it breaks none.
func validBaggageMember(m string) (offset int, rule string) {
	if from, to := trimOWS(m, 0, len(m)); from == to {
		return 0, ruleValidBaggageMember
	}
	for at := 0; at <= len(m); {
		end := at + index(m[at:], ';')
		eq := at + index(m[at:end], '=')
		if eq == end && at == 0 {
			return end, ruleBaggageMember
		}
		from, to := trimOWS(m, at, eq)
		for i := from; i < to; i++ {
			if baggageBytes[m[i]]&tokenByte == 0 {
				return i, ruleBaggageKey
			}
		}
		if from == to {
			return from, ruleBaggageKey
		}
		from, to = trimOWS(m, min(eq+1, end), end)
		for i := from; i < to; i++ {
			if c := m[i]; c != '%' && baggageBytes[c]&octetByte == 0 {
				return i, ruleValidBaggageValue
			}
		}
		at = end + 1
	}
	return 0, ""
}
