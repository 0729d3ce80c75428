package otlpwire

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// Wire types of the protobuf encoding; 3, 4 (groups), 6 and 7 never occur in OTLP.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// sizeVarint is the length of v as a varint, 1 to 10 bytes.
func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// sizeField is the length of a bytes field with n bytes of content and a number below 16.
func sizeField(n int) int { return 1 + sizeVarint(uint64(n)) + n }

// appendVarint appends v in as few bytes as it takes.
func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// The fields below take numbers from 1 to 15, whose tag is one byte. A field that
// has its zero value is left out, as proto3 does.

func appendUint(b []byte, num byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendVarint(append(b, num<<3|wireVarint), v)
}

func appendFixed64(b []byte, num byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.LittleEndian.AppendUint64(append(b, num<<3|wireFixed64), v)
}

func appendString(b []byte, num byte, s string, repaired *int) []byte {
	if s == "" {
		return b
	}
	return appendText(b, num, s, repaired)
}

// appendText appends a string field even when s is empty: a oneof states its member.
func appendText(b []byte, num byte, s string, repaired *int) []byte {
	s = valid(s, repaired)
	b = appendVarint(append(b, num<<3|wireBytes), uint64(len(s)))
	return append(b, s...)
}

// valid returns s with each run of bytes that are not UTF-8 replaced by U+FFFD, and
// counts a string that had one. A receiver may refuse a whole request for a string
// that is not UTF-8.
func valid(s string, repaired *int) string {
	if isASCII(s) || utf8.ValidString(s) {
		return s
	}
	*repaired++
	return strings.ToValidUTF8(s, "\uFFFD")
}

// isASCII looks at eight bytes at a time, the last eight overlapping those before.
// For the short strings of a span it takes half the time of utf8.ValidString.
func isASCII(s string) bool {
	n := len(s)
	switch {
	case n >= 8:
		all := load64(s, n-8)
		for i := 0; i < n-8; i += 8 {
			all |= load64(s, i)
		}
		return all&0x8080808080808080 == 0
	case n >= 4:
		return (load32(s, 0)|load32(s, n-4))&0x80808080 == 0
	}
	for i := range n {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// load64 and load32 compile to one load.

func load64(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func load32(s string, i int) uint32 {
	s = s[i : i+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func appendBytes(b []byte, num byte, v []byte) []byte {
	b = appendVarint(append(b, num<<3|wireBytes), uint64(len(v)))
	return append(b, v...)
}

// open begins a nested message: the content follows, then closeAt with the mark.
// One byte is kept free for the length, since most messages are below 128 bytes.
func open(b []byte, num byte) (out []byte, mark int) {
	b = append(b, num<<3|wireBytes, 0)
	return b, len(b)
}

// closeAt writes the length of the message that began at mark, and moves the
// content on by the bytes that a longer length takes.
func closeAt(b []byte, mark int) []byte {
	n := len(b) - mark
	b[mark-1] = byte(n)
	if n < 0x80 {
		return b
	}
	return closeLong(b, mark)
}

func closeLong(b []byte, mark int) []byte {
	n := len(b) - mark
	extra := sizeVarint(uint64(n)) - 1
	var room [binary.MaxVarintLen64]byte
	b = append(b, room[:extra]...)
	copy(b[mark+extra:], b[mark:mark+n])
	binary.PutUvarint(b[mark-1:], uint64(n))
	return b
}
