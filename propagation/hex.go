package propagation

import "go.opentelemetry.io/otel/trace"

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
// are there and of class. The size is fixed so that it is checked once and not for
// every digit.
func decodeHex(dst *[8]byte, s string, class byte) bool {
	if len(s) < 16 {
		return false
	}
	all := class
	for i := range dst {
		hi, lo := hexTable[s[2*i]], hexTable[s[2*i+1]]
		dst[i] = hi<<4 | lo&0xf
		all &= hi & lo
	}
	return all != 0
}

// decodeTraceID reads the first 32 digits of s into dst likewise.
func decodeTraceID(dst *trace.TraceID, s string, class byte) bool {
	return len(s) >= 32 &&
		decodeHex((*[8]byte)(dst[:8]), s, class) && decodeHex((*[8]byte)(dst[8:]), s[16:], class)
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

// appendHex appends src in lower case.
func appendHex(dst, src []byte) []byte {
	for _, b := range src {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&0xf])
	}
	return dst
}
