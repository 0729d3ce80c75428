package requestid

import (
	"encoding/binary"
	"math/rand/v2"
	"strconv"

	"github.com/google/uuid"
)

// Names of the headers that belong to a request id, in the canonical form of
// net/http. gRPC metadata has them in lower case.
const (
	// Header carries the id itself.
	Header = "X-Request-Id"
	// HeaderClientTraceID asks for a trace on behalf of a client and carries the
	// client's own id. Its presence counts, not its value (D-11, D-14).
	HeaderClientTraceID = "X-Client-Trace-Id"
	// HeaderForceTrace asks for a trace on behalf of an internal service. Its
	// presence counts, not its value (D-11).
	HeaderForceTrace = "X-Envoy-Force-Trace"
)

// MaxLen is the most bytes that [Parse] accepts; a [Policy] replaces a longer id.
const MaxLen = 128

const (
	uuidLen     = 36 // the only length whose reason digit is read and written (RID-10)
	reasonIndex = 14 // RID-9
)

// ID is a request id as it stands in the header. The zero value is no id. An ID
// that did not come from this package may hold any bytes; [Parse] checks them.
type ID string

// New returns a random UUID of version 4 in lower case, 36 bytes (RID-1). Its
// reason is [NotTraceable]. It makes one allocation and may be called
// concurrently. The randomness is that of math/rand/v2: no two ids are the
// same in practice, but an id is no secret.
func New() ID {
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000    // version 4
	lo = lo&^(0b11<<62) | 1<<63 // the variant of RFC 9562
	return format(hi, lo)
}

// FromUUID returns u in lower case, 36 bytes. Its version digit stands where the
// reason does: version 4 is what Envoy makes, and 9, 10 and 11, which no RFC
// defines, are read as reasons.
//
// The sampling number is taken from the first 32 bits. In version 7 these are
// the upper bits of the clock, so every id of about 65 seconds has the same
// number and the requests of that time are all traced, or none: use version 4
// for new ids.
func FromUUID(u uuid.UUID) ID {
	return format(binary.BigEndian.Uint64(u[:8]), binary.BigEndian.Uint64(u[8:]))
}

// format writes 128 bits as 8-4-4-4-12 lower-case hex digits.
func format(hi, lo uint64) ID {
	var b [uuidLen]byte
	binary.BigEndian.PutUint64(b[0:], hex8(uint32(hi>>32)))
	mid := hex8(uint32(hi))
	binary.BigEndian.PutUint32(b[9:], uint32(mid>>32))
	binary.BigEndian.PutUint32(b[14:], uint32(mid))
	mid = hex8(uint32(lo >> 32))
	binary.BigEndian.PutUint32(b[19:], uint32(mid>>32))
	binary.BigEndian.PutUint32(b[24:], uint32(mid))
	binary.BigEndian.PutUint64(b[28:], hex8(uint32(lo)))
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return ID(b[:])
}

// hex8 returns the eight lower-case hex digits of v, the first in the highest
// byte. It works on all digits at once, without a table and without branches.
func hex8(v uint32) uint64 {
	x := uint64(v)
	x = (x<<16 | x) & 0x0000ffff_0000ffff
	x = (x<<8 | x) & 0x00ff00ff_00ff00ff
	x = (x<<4 | x) & 0x0f0f0f0f_0f0f0f0f // one digit a byte
	letters := (x + 0x06060606_06060606) >> 4 & 0x01010101_01010101
	return x + 0x30303030_30303030 + letters*('a'-10-'0')
}

// Parse returns s as an ID if it is 1 to [MaxLen] bytes of
// A-Z a-z 0-9 . _ ~ + / = - and so can stand in a header, a log line and a span
// without doing harm. UUIDs, ULIDs, KSUIDs, X-Ray roots, base64 and hex pass.
// The error is a *[ParseError]. Parse trims nothing and allocates only for the
// error.
func Parse(s string) (ID, error) {
	if i := refusedAt(s); i >= 0 {
		return "", &ParseError{Value: s, Offset: i}
	}
	return ID(s), nil
}

// refusedAt returns the offset that Parse reports, -1 if s is an id.
func refusedAt(s string) int {
	if s == "" {
		return 0
	}
	if len(s) > MaxLen { // before any byte is looked at
		return MaxLen
	}
	i := 0
	for ; len(s)-i >= 8 && usual8(s[i:i+8]); i += 8 {
	}
	for ; i < len(s); i++ {
		if refused[s[i]] != 0 {
			return i
		}
	}
	return -1
}

// usual8 reports whether all of 8 bytes are letters, digits or one of - . /. It looks at
// them at once: a byte plus what is missing to 0x80 has its top bit from there on.
func usual8(s string) bool {
	const every = 0x01010101_01010101
	w := binary.LittleEndian.Uint64([]byte(s))
	low := w | 0x20*every // upper case to lower case; what was no letter becomes none
	digits := (w + (0x80-'-')*every) &^ (w + (0x7f-'9')*every)
	letters := (low + (0x80-'a')*every) &^ (low + (0x7f-'z')*every)
	return (digits|letters)&^w&(0x80*every) == 0x80*every
}

// refused has a 1 for each byte that no id has.
var refused = func() (t [256]byte) {
	for c := range t {
		t[c] = 1
	}
	for _, c := range "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~+/=" {
		t[c] = 0
	}
	return t
}()

// ParseError says why [Parse] refused a value.
type ParseError struct {
	Value  string // what was refused, whole
	Offset int    // of the first byte in the way; MaxLen if Value is too long, 0 if it is empty
}

// Error is one line of bounded length that names the rule and quotes at most
// MaxLen bytes of the value.
func (e *ParseError) Error() string {
	switch {
	case e.Value == "":
		return "requestid: an id is 1 to " + strconv.Itoa(MaxLen) + " bytes, got none"
	case len(e.Value) > MaxLen:
		return "requestid: an id is 1 to " + strconv.Itoa(MaxLen) + " bytes, got " + strconv.Itoa(len(e.Value))
	case e.Offset < 0 || e.Offset >= len(e.Value): // made by hand
		return "requestid: bad id " + strconv.Quote(e.Value)
	}
	return "requestid: byte " + strconv.Itoa(e.Offset) + " of " + strconv.Quote(e.Value) +
		" is " + strconv.Quote(e.Value[e.Offset:e.Offset+1]) + ", allowed are A-Z a-z 0-9 . _ ~ + / = -"
}

// UUID returns the id as a UUID with its reason digit put back to 4, so it is
// the same on all hops. It is false for anything but 36 bytes of the form
// 8-4-4-4-12 hex digits, in either case.
func (id ID) UUID() (uuid.UUID, bool) {
	if len(id) != uuidLen { // uuid.Parse takes other forms too
		return uuid.Nil, false
	}
	u, err := uuid.Parse(string(id))
	if err != nil {
		return uuid.Nil, false
	}
	u[6] = u[6]&0x0f | 0x40
	return u, true
}

// Number returns the sampling number: the first 8 characters as hex, in either
// case (RID-14). It is false when there are fewer or one is no hex digit; such a
// request is never traced by Envoy (D-3). A 0x in front counts among the 8 and is
// passed over, so that 0x1aaaaa has a number: an accident of Envoy's parser (RID-16),
// kept because an id that one hop samples by and the next does not splits a trace. A
// sign gives none.
func (id ID) Number() (uint32, bool) {
	if len(id) < 8 {
		return 0, false
	}
	digits := id[:8]
	if digits[0] == '0' && digits[1]|0x20 == 'x' { // RID-16
		digits = digits[2:]
	}
	var n uint32
	for i := range len(digits) {
		d, ok := hexDigit(digits[i])
		if !ok {
			return 0, false
		}
		n = n<<4 | uint32(d)
	}
	return n, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// Canonical returns the spelling that is the same on all hops: the reason digit
// of a 36-byte id is 4, and an id of hex digits and hyphens only is in lower
// case. In other ids (a ULID, base64, a word) the case may carry meaning and
// stays. It allocates only if something changes.
func (id ID) Canonical() ID {
	fold := id.isHex()
	for i := range len(id) {
		if id.canonicalByte(i, fold) == id[i] {
			continue
		}
		b := []byte(id)
		for ; i < len(b); i++ {
			b[i] = id.canonicalByte(i, fold)
		}
		return ID(b)
	}
	return id
}

// Equal reports whether a and b name the same request, whatever their reason
// digits say: whether a.Canonical() == b.Canonical(). It does not allocate. Two
// empty ids are equal.
func Equal(a, b ID) bool {
	if a == b {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	foldA, foldB := a.isHex(), b.isHex()
	for i := range len(a) {
		if a.canonicalByte(i, foldA) != b.canonicalByte(i, foldB) {
			return false
		}
	}
	return true
}

// isHex reports whether the id holds hex digits and hyphens only, the reason
// digit aside.
func (id ID) isHex() bool {
	for i := range len(id) {
		if _, ok := hexDigit(id[i]); !ok && id[i] != '-' && !(i == reasonIndex && len(id) == uuidLen) {
			return false
		}
	}
	return true
}

func (id ID) canonicalByte(i int, fold bool) byte {
	c := id[i]
	switch {
	case i == reasonIndex && len(id) == uuidLen:
		return digitNotTraceable
	case fold && 'A' <= c && c <= 'F':
		return c + 'a' - 'A'
	}
	return c
}
