package otlpwire

import (
	"encoding/binary"
	"fmt"
)

// WireError says where bytes stop being a message of the schema.
type WireError struct {
	Offset int    // into the bytes that were given
	Field  string // message and field, as OTLP/JSON names it: "Span.traceId"; "" when it is not known
	Reason string
}

// Error returns the three in one line.
func (e *WireError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("otlpwire: byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("otlpwire: byte %d: %s: %s", e.Offset, e.Field, e.Reason)
}

// reader is what the messages of one piece of input share. Its first error ends the
// loops over all of them.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(at int, field, reason string) {
	if r.err == nil {
		r.err = &WireError{at, field, reason}
	}
}

// message walks over the fields of the message at b[pos:end]. Nested messages are of
// the same reader, so that an offset is one into the whole.
type message struct {
	*reader
	pos, end int
}

func read(b []byte) message { return message{&reader{b: b}, 0, len(b)} }

// field is one field as it stands on the wire: content b[lo:hi] where typ is
// wireBytes, else value v.
type field struct {
	num    uint32
	typ    byte
	at     int // of the tag
	v      uint64
	lo, hi int
}

// next reads a field and moves on; false at the end and after an error. Groups, which
// OTLP never had, are an error.
func (m *message) next(f *field) bool {
	if m.err != nil || m.pos == m.end {
		return false
	}
	*f = field{at: m.pos}
	tag := m.varint()
	if num := tag >> 3; m.err == nil && (num == 0 || num > 1<<29-1) {
		m.fail(f.at, "", "field number out of range")
	}
	f.num, f.typ = uint32(tag>>3), byte(tag&7)
	switch f.typ {
	case wireVarint:
		f.v = m.varint()
	case wireFixed64:
		if m.take(8) {
			f.v = binary.LittleEndian.Uint64(m.b[m.pos-8:])
		}
	case wireFixed32:
		if m.take(4) {
			f.v = uint64(binary.LittleEndian.Uint32(m.b[m.pos-4:]))
		}
	case wireBytes:
		at := m.pos
		n := m.varint()
		if n > uint64(m.end-m.pos) {
			m.fail(at, "", "length goes beyond the message")
			return false
		}
		f.lo, f.hi = m.pos, m.pos+int(n)
		m.pos = f.hi
	default:
		m.fail(f.at, "", fmt.Sprintf("wire type %d", f.typ))
	}
	return m.err == nil
}

func (m *message) varint() uint64 {
	if m.err != nil {
		return 0
	}
	rest := m.b[m.pos:m.end]
	v, n := binary.Uvarint(rest)
	switch {
	case n > 0:
		m.pos += n
	case n < 0 || len(rest) >= binary.MaxVarintLen64:
		m.fail(m.pos, "", "varint of more than 64 bits")
	default:
		m.fail(m.pos, "", "varint is cut off")
	}
	return v
}

// take moves n bytes on.
func (m *message) take(n int) bool {
	if m.err != nil {
		return false
	}
	if m.end-m.pos < n {
		m.fail(m.pos, "", "fixed number is cut off")
		return false
	}
	m.pos += n
	return true
}

func (r *reader) sub(f *field) message  { return message{r, f.lo, f.hi} }
func (r *reader) bytes(f *field) []byte { return r.b[f.lo:f.hi] }
func (r *reader) text(f *field) string  { return string(r.b[f.lo:f.hi]) }
