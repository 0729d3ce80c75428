package otlpwire

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"
)

// AppendJSON appends an ExportTraceServiceRequest as OTLP/JSON in one line, without
// a line break at its end, and returns the extended slice (OTLP, "JSON Protobuf
// Encoding"): names in lowerCamelCase, ids in lower-case hex, other bytes in base64,
// 64-bit integers as decimal strings, enums as numbers, NaN and the infinities as
// strings. Fields that are zero or unknown are left out.
//
// What it refuses, and how, is as for Scan; dst then comes back as it was. Where a
// field that is no list stands twice the last one counts.
func AppendJSON(dst, request []byte) ([]byte, error) {
	m, err := scan(request, exportRequest, MaxRequest, nil)
	if err != nil {
		return dst, err
	}
	return appendMessage(dst, m, exportRequest), nil
}

// appendMessage passes over m once for each field that it has, since the elements of a
// list need not stand together on the wire.
func appendMessage(b []byte, m message, id int) []byte {
	b = append(b, '{')
	if id == anyValue {
		if f, e := lastMember(m); e != nil { // even where it is zero: a oneof says which it is
			b = appendField(appendName(b, e.name), m, &f, e)
		}
		return append(b, '}')
	}
	var f field
	var has [32]bool // by number; the schema has none above 30
	for c := m; c.next(&f); {
		has[min(f.num, 31)] = true
	}
	sep := false
	for i := range schemas[id].fields {
		e := &schemas[id].fields[i]
		if !has[e.num] {
			continue
		}
		var last field
		n := 0
		for c := m; c.next(&f); {
			if f.num != e.num {
				continue
			}
			n++
			last = f
			if e.repeated {
				if n == 1 {
					b = append(appendName(appendSep(b, &sep), e.name), '[')
				} else {
					b = append(b, ',')
				}
				b = appendField(b, m, &f, e)
			}
		}
		switch {
		case e.repeated:
			b = append(b, ']')
		case e.form == formMessage || last.v != 0 || last.hi > last.lo:
			b = appendField(appendName(appendSep(b, &sep), e.name), m, &last, e)
		}
	}
	return append(b, '}')
}

// lastMember returns the member of an AnyValue that counts, nil when it has none.
func lastMember(m message) (last field, member *entry) {
	var f field
	for m.next(&f) {
		if e := schemas[anyValue].lookup(f.num); e != nil {
			last, member = f, e
		}
	}
	return last, member
}

func appendSep(b []byte, sep *bool) []byte {
	if *sep {
		b = append(b, ',')
	}
	*sep = true
	return b
}

func appendName(b []byte, name string) []byte {
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// appendField appends the value of f.
func appendField(b []byte, m message, f *field, e *entry) []byte {
	switch e.form {
	case formMessage:
		return appendMessage(b, m.sub(f), e.of)
	case formText:
		return appendQuoted(b, m.text(f))
	case formID:
		b = hex.AppendEncode(append(b, '"'), m.bytes(f))
		return append(b, '"')
	case formBytes:
		b = base64.StdEncoding.AppendEncode(append(b, '"'), m.bytes(f))
		return append(b, '"')
	case formEnum:
		return strconv.AppendInt(b, int64(int32(f.v)), 10)
	case formInt64:
		b = strconv.AppendInt(append(b, '"'), int64(f.v), 10)
		return append(b, '"')
	case formFixed64:
		b = strconv.AppendUint(append(b, '"'), f.v, 10)
		return append(b, '"')
	case formBool:
		return strconv.AppendBool(b, f.v != 0)
	case formDouble:
		return appendFloat(b, math.Float64frombits(f.v))
	default: // formUint32, formFixed32
		return strconv.AppendUint(b, uint64(uint32(f.v)), 10)
	}
}

// appendFloat appends v as ECMAScript writes numbers, as encoding/json does.
func appendFloat(b []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(b, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(b, `"-Infinity"`...)
	}
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(b, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

// appendQuoted appends s, which is UTF-8, as a JSON string, with the escapes that
// encoding/json uses for what is not HTML.
func appendQuoted(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == 0xE2 && (s[i:i+3] == "\u2028" || s[i:i+3] == "\u2029") { // line ends in JavaScript
			b = append(b, s[start:i]...)
			b = append(b, `\u202`...)
			b = append(b, digits[s[i+2]&15])
			start = i + 3
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendPlain appends an AnyValue as the JSON value that it stands for, without the
// names of members (OpenTelemetry, "AnyValue representation for non-OTLP protocols").
func appendPlain(b []byte, m message) []byte {
	f, e := lastMember(m)
	if e == nil {
		return append(b, "null"...)
	}
	return appendPlainMember(b, m, &f)
}

// appendPlainMember appends the value of f, a member of AnyValue.
func appendPlainMember(b []byte, m message, f *field) []byte {
	var g field
	sep := false
	switch f.num {
	case 3: // a number, where OTLP/JSON has a string
		return strconv.AppendInt(b, int64(f.v), 10)
	case 5:
		b = append(b, '[')
		for array := m.sub(f); array.next(&g); {
			if g.num == 1 {
				b = appendPlain(appendSep(b, &sep), m.sub(&g))
			}
		}
		return append(b, ']')
	case 6:
		b = append(b, '{')
		for list := m.sub(f); list.next(&g); {
			if g.num == 1 {
				b = appendPlainPair(appendSep(b, &sep), m.sub(&g))
			}
		}
		return append(b, '}')
	default:
		return appendField(b, m, f, schemas[anyValue].lookup(f.num))
	}
}

func appendPlainPair(b []byte, m message) []byte {
	var key string
	value := message{reader: m.reader} // an absent value is null
	var f field
	for m.next(&f) {
		switch f.num {
		case 1:
			key = m.text(&f)
		case 2:
			value = m.sub(&f)
		}
	}
	return appendPlain(append(appendQuoted(b, key), ':'), value)
}
