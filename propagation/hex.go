package propagation

import (
	"encoding/binary"

	"go.opentelemetry.io/otel/trace"
)

// Classes of hexTable. A digit carries its value in the low four bits.
const (
	anyHex   byte = 0x10 // 0-9, a-f, A-F
	lowerHex byte = 0x20 // 0-9, a-f
)

// hexTable classifies each byte; 0 is no hex digit.
var hexTable = [256]byte{
	'0': 0x30, '1': 0x31, '2': 0x32, '3': 0x33, '4': 0x34, '5': 0x35, '6': 0x36, '7': 0x37,
	'8': 0x38, '9': 0x39, 'a': 0x3a, 'b': 0x3b, 'c': 0x3c, 'd': 0x3d, 'e': 0x3e, 'f': 0x3f,
	'A': 0x1a, 'B': 0x1b, 'C': 0x1c, 'D': 0x1d, 'E': 0x1e, 'F': 0x1f,
}

const hexDigits = "0123456789abcdef"

// decodeHex reads the first 16 digits of s into dst and reports whether all of them
// are there and of class.
func decodeHex(dst *[8]byte, s string, class byte) bool {
	n, ok := hex16(s, class)
	binary.BigEndian.PutUint64(dst[:], n)
	return ok
}

// hex16 returns the number that the first 16 digits of s are, false when one of them is
// not there or not of class. Eight are read at once, which every request pays for.
func hex16(s string, class byte) (n uint64, ok bool) {
	if len(s) < 16 {
		return 0, false
	}
	a, b := load8(s), load8(s[8:])
	if class == anyHex { // to lower case
		a |= letters(a) << 5
		b |= letters(b) << 5
	}
	hi, lo := a&(0x0f*everyByte)+letters(a)*9, b&(0x0f*everyByte)+letters(b)*9
	// What is no digit would not be written as it is.
	bad := (hi|lo)&(0xf0*everyByte) | (asDigits(hi) ^ a) | (asDigits(lo) ^ b)
	return pack(hi)<<32 | pack(lo), bad == 0
}

// load8 returns the first 8 bytes of s, the first in the highest byte.
func load8(s string) uint64 {
	_ = s[7]
	return uint64(s[0])<<56 | uint64(s[1])<<48 | uint64(s[2])<<40 | uint64(s[3])<<32 |
		uint64(s[4])<<24 | uint64(s[5])<<16 | uint64(s[6])<<8 | uint64(s[7])
}

const everyByte = 0x0101010101010101

// letters returns a word with 1 in each byte of w that is a letter, if it is a digit.
func letters(w uint64) uint64 { return w >> 6 & everyByte }

// pack returns the 32 bits that the numbers below 16 in the bytes of n are.
func pack(n uint64) uint64 {
	n = (n | n>>4) & 0x00ff00ff00ff00ff
	n = (n | n>>8) & 0x0000ffff0000ffff
	return (n | n>>16) & 0xffffffff
}

// asDigits returns the digits of numbers below 16, one a byte.
func asDigits(n uint64) uint64 {
	letters := (n + 6*everyByte) >> 4 & everyByte
	return n + '0'*everyByte + letters*('a'-'0'-10)
}

// decodeTraceID reads the first 32 digits of s into dst likewise.
func decodeTraceID(dst *trace.TraceID, s string, class byte) bool {
	return len(s) >= 32 &&
		decodeHex((*[8]byte)(dst[:8]), s, class) && decodeHex((*[8]byte)(dst[8:]), s[16:], class)
}

// decodePadded reads 1 to 2*len(dst) digits of either case, those that are missing in
// front being zeros. Otherwise it is false, and where.
func decodePadded(dst []byte, s string) (at int, ok bool) {
	switch {
	case s == "" || len(s) > 2*len(dst):
		return min(len(s), 2*len(dst)), false
	case len(s) == 16:
		if !decodeHex((*[8]byte)(dst[len(dst)-8:]), s, anyHex) {
			return notHex(s, anyHex), false
		}
		return 0, true
	case len(s) == 32:
		if !decodeTraceID((*trace.TraceID)(dst), s, anyHex) {
			return notHex(s, anyHex), false
		}
		return 0, true
	}
	for i := range len(s) {
		d := hexTable[s[i]]
		if d&anyHex == 0 {
			return i, false
		}
		nibble := 2*len(dst) - len(s) + i
		dst[nibble/2] |= d & 0xf << (4 * (1 - nibble%2))
	}
	return 0, true
}

// maxHexNumber bounds a hex number, which may have any number of zeros in front.
const maxHexNumber = 128

// hexNumber reads digits of either case as one number, false when they are none or
// have more than 64 bits.
func hexNumber(s string) (n uint64, ok bool) {
	if s == "" || len(s) > maxHexNumber {
		return 0, false
	}
	for i := range len(s) {
		d := hexTable[s[i]]
		if d&anyHex == 0 || n>>60 != 0 {
			return 0, false
		}
		n = n<<4 | uint64(d&0xf)
	}
	return n, true
}

// notHex returns the index of the first byte of s that is not of class, 0 when all
// are.
func notHex(s string, class byte) int {
	for i := range len(s) {
		if hexTable[s[i]]&class == 0 {
			return i
		}
	}
	return 0
}

// putHex writes the 16 digits of id, in lower case, to the beginning of dst.
func putHex(dst []byte, id []byte) {
	n := binary.BigEndian.Uint64(id)
	binary.BigEndian.PutUint64(dst, digits(n>>32))
	binary.BigEndian.PutUint64(dst[8:], digits(n&0xffffffff))
}

// digits returns the 8 digits of n, which has 32 bits, the first in the highest byte.
func digits(n uint64) uint64 {
	n = (n<<16 | n) & 0x0000ffff0000ffff
	n = (n<<8 | n) & 0x00ff00ff00ff00ff
	n = (n<<4 | n) & 0x0f0f0f0f0f0f0f0f
	return asDigits(n)
}

// appendHex appends src, of 8 or 16 bytes, in lower case.
func appendHex(dst, src []byte) []byte {
	for ; len(src) >= 8; src = src[8:] {
		var b [16]byte
		putHex(b[:], src)
		dst = append(dst, b[:]...)
	}
	return dst
}
