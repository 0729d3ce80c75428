package envoymodel

import "strconv"

// setRequestID makes, keeps or replaces x-request-id.
func (l Listener) setRequestID(h Header, edge bool, generated string) {
	if l.GenerateOff {
		return // RID-6
	}
	switch id := h.get("x-request-id"); {
	case id == "": // RID-1, RID-2: absent or empty
		h.set("x-request-id", generated)
	case !edge: // RID-3
	case !l.PreserveExternal: // RID-4
		h.set("x-request-id", generated)
	default: // RID-5, RID-7
		l.writeReason(h, NotTraceable)
	}
}

// The digit: where it stands, in an id of which length, and what it says (RID-9, RID-10).
const (
	digitAt      = 14
	digitIDBytes = 36
)

var digits = map[Reason]byte{
	NotTraceable:  '4',
	Sampling:      '9',
	ServiceForced: 'a',
	ClientForced:  'b',
}

// readReason reads the digit of x-request-id.
func (l Listener) readReason(h Header) Reason {
	id := h.get("x-request-id")
	if l.PackOff || len(id) != digitIDBytes {
		return NotTraceable // RID-10, RID-11
	}
	for reason, digit := range digits {
		if id[digitAt] == digit {
			return reason
		}
	}
	return NotTraceable // RID-9: any other character
}

// writeReason writes the digit into x-request-id, if there is a place for it.
func (l Listener) writeReason(h Header, reason Reason) {
	id := h.get("x-request-id")
	if l.PackOff || len(id) != digitIDBytes {
		return // RID-10, RID-12
	}
	digit, ok := digits[reason]
	if !ok {
		return // RID-13
	}
	h.set("x-request-id", id[:digitAt]+string(digit)+id[digitAt+1:])
}

// samplingNumber reads the first eight characters of x-request-id as hex
// (RID-14); false when the id has no number.
func samplingNumber(h Header) (uint64, bool) {
	id := h.get("x-request-id")
	if len(id) < 8 {
		return 0, false
	}
	digits := id[:8]
	if digits[:2] == "0x" || digits[:2] == "0X" {
		digits = digits[2:] // RID-16: as the C parser reads it
	}
	for i := range len(digits) {
		if !isHex(digits[i]) {
			return 0, false // RID-15; RID-16: a sign
		}
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	return number, err == nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// responseRequestID returns what replaces x-request-id in the response, or nil.
// The header is the request's, after sanitising.
func (l Listener) responseRequestID(h Header) *string {
	if !l.AlwaysSetInResponse && !h.has(l.envoyHeader("force-trace")) {
		return nil // RID-18
	}
	if !h.has("x-request-id") {
		return nil // RID-19
	}
	return new(h.get("x-request-id")) // RID-19: an empty one too
}
