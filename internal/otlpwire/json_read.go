package otlpwire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ReadJSON returns the protobuf form of an ExportTraceServiceRequest in OTLP/JSON. It
// takes what "JSON Protobuf Encoding" of OTLP and proto3's JSON mapping allow to a
// sender: integers as numbers or strings, ids in either case of hex, null for an absent
// field, and unknown fields, which it passes over. Enums are numbers, as OTLP demands.
//
// What it refuses is a *WireError, whose Offset is 0; the result is within the limits
// that Scan has. While it reads, a hostile request may take some thirty times its size.
func ReadJSON(request []byte) ([]byte, error) {
	return readJSON(request, exportRequest, MaxRequest)
}

// ReadResponseJSON reads an ExportTraceServiceResponse in OTLP/JSON as ReadResponse does.
func ReadResponseJSON(b []byte) (rejected int64, message string, err error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return 0, "", nil
	}
	if b, err = readJSON(b, exportResponse, maxAnswer); err != nil {
		return 0, "", err
	}
	return ReadResponse(b)
}

// ReadStatusJSON reads code and message of a google.rpc.Status in JSON, as ReadStatus does.
func ReadStatusJSON(b []byte) (Status, error) {
	b, err := readJSON(b, rpcStatus, maxStatus)
	if err != nil {
		return Status{}, err
	}
	return ReadStatus(b)
}

func readJSON(b []byte, of, limit int) ([]byte, error) {
	if len(b) > limit {
		return nil, &WireError{limit, "", fmt.Sprintf("more than %d bytes", limit)}
	}
	if !utf8.Valid(b) {
		return nil, &WireError{0, "", "not UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, &WireError{0, "", "no JSON: " + err.Error()}
	}
	if rest := bytes.TrimSpace(b[d.InputOffset():]); len(rest) > 0 {
		return nil, &WireError{int(d.InputOffset()), "", "more than one JSON value"}
	}
	out, err := appendFromJSON(nil, v, of)
	if err != nil {
		return nil, err
	}
	_, err = scan(out, of, limit, nil)
	return out, err
}

// appendFromJSON appends the body of the message that v is.
func appendFromJSON(b []byte, v any, id int) ([]byte, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil, &WireError{0, schemas[id].name, "no JSON object"}
	}
	if id == anyMessage { // in JSON its fields are those of the message in it
		return b, nil
	}
	var err error
	for i := range schemas[id].fields {
		e := &schemas[id].fields[i]
		member, ok := object[e.name]
		if !ok || member == nil {
			continue
		}
		list := []any{member}
		if e.repeated {
			if list, ok = member.([]any); !ok {
				return nil, &WireError{0, schemas[id].name + "." + e.name, "no JSON array"}
			}
		}
		for _, m := range list {
			if b, err = appendMember(b, m, e, schemas[id].name); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// appendMember appends one field with its tag. It is written even where it is zero: in
// a oneof that says which member it is.
func appendMember(b []byte, v any, e *entry, of string) ([]byte, error) {
	bad := func(reason string) ([]byte, error) { return nil, &WireError{0, of + "." + e.name, reason} }
	b = appendVarint(b, uint64(e.num)<<3|uint64(wireTypes[e.form]))
	switch e.form {
	case formMessage:
		body, err := appendFromJSON(nil, v, e.of)
		if err != nil {
			return nil, err
		}
		return append(appendVarint(b, uint64(len(body))), body...), nil
	case formBool:
		switch v {
		case true:
			return append(b, 1), nil
		case false:
			return append(b, 0), nil
		}
		return bad("neither true nor false")
	case formDouble:
		f, ok := jsonFloat(v)
		if !ok {
			return bad("no number")
		}
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(f)), nil
	case formText, formID, formBytes:
		s, ok := v.(string)
		if !ok {
			return bad("no string")
		}
		bytes, ok := jsonBytes(s, e.form, of)
		if !ok {
			return bad("wrong encoding")
		}
		return append(appendVarint(b, uint64(len(bytes))), bytes...), nil
	}
	n, ok := jsonInteger(v, e.form)
	if !ok {
		return bad("no number in range")
	}
	switch wireTypes[e.form] {
	case wireFixed64:
		return binary.LittleEndian.AppendUint64(b, n), nil
	case wireFixed32:
		return binary.LittleEndian.AppendUint32(b, uint32(n)), nil
	}
	return appendVarint(b, n), nil
}

// jsonBytes returns the content of a string; the texts of answers are bytes in the
// schema here and text in JSON.
func jsonBytes(s string, f form, of string) ([]byte, bool) {
	switch {
	case f == formID:
		b, err := hex.DecodeString(s)
		return b, err == nil
	case f == formBytes && of == schemas[anyValue].name:
		s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		b, err := base64.RawStdEncoding.DecodeString(s)
		return b, err == nil
	}
	return []byte(s), true
}

func jsonFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(v.String(), 64)
		return f, err == nil
	case string:
		switch v {
		case "NaN":
			return math.NaN(), true
		case "Infinity":
			return math.Inf(1), true
		case "-Infinity":
			return math.Inf(-1), true
		}
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	}
	return 0, false
}

// jsonInteger returns an integer as it stands in a varint or fixed field.
func jsonInteger(v any, f form) (uint64, bool) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	default:
		return 0, false
	}
	switch f {
	case formUint32, formFixed32:
		n, err := strconv.ParseUint(s, 10, 32)
		return n, err == nil
	case formFixed64:
		n, err := strconv.ParseUint(s, 10, 64)
		return n, err == nil
	case formEnum:
		n, err := strconv.ParseInt(s, 10, 32)
		return uint64(n), err == nil
	default: // formInt64
		n, err := strconv.ParseInt(s, 10, 64)
		return uint64(n), err == nil
	}
}
