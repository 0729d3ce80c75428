package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Limits of a file.
const (
	maxFile  = 1 << 20 // bytes
	maxDepth = 32      // of objects and lists in one another
)

// decode reads JSON into a struct, strictly: a name that the struct has no place for, a
// name twice, and a value of another type are mistakes, and all of them are told.
// encoding/json alone stops at the first.
func decode(file []byte, into any) error {
	if len(file) > maxFile {
		return fmt.Errorf("gateway: a file of %d bytes: allowed are %d", len(file), maxFile)
	}
	dec := json.NewDecoder(bytes.NewReader(file))
	var p problems
	if err := p.names(dec, reflect.TypeOf(into).Elem(), "", 0); err != nil {
		line := 1 + bytes.Count(file[:min(int(dec.InputOffset()), len(file))], []byte("\n"))
		return fmt.Errorf("gateway: line %d: %w: allowed is JSON, %d deep", line, err, maxDepth)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		p.list = append(p.list, "after the end: allowed is one JSON value")
	}
	if err := p.err(); err != nil {
		return err
	}
	return json.Unmarshal(file, into)
}

// names walks one value and notes what does not fit the type t.
func (p *problems) names(dec *json.Decoder, t reflect.Type, at string, depth int) error {
	if depth > maxDepth {
		return errors.New("too deep")
	}
	dec.UseNumber()
	tok, err := dec.Token()
	if err != nil {
		return unexpected(err)
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch tok {
	case json.Delim('{'):
		return p.object(dec, t, at, depth)
	case json.Delim('['):
		elem := t
		if t != nil && t.Kind() != reflect.Slice && t.Kind() != reflect.Interface {
			p.addf(place(at), "[…]", "%s", kindName(t))
			elem = nil
		} else if t != nil && t.Kind() == reflect.Slice {
			elem = t.Elem()
		}
		for i := 0; dec.More(); i++ {
			if err := p.names(dec, elem, fmt.Sprintf("%s[%d]", at, i), depth+1); err != nil {
				return err
			}
		}
		_, err := dec.Token()
		return unexpected(err)
	}
	if t != nil && t.Kind() != reflect.Interface && tok != nil {
		value, err := json.Marshal(tok)
		if err != nil || json.Unmarshal(value, reflect.New(t).Interface()) != nil {
			p.addf(place(at), tok, "%s", kindName(t))
		}
	}
	return nil
}

// object walks the fields of an object whose { was read.
func (p *problems) object(dec *json.Decoder, t reflect.Type, at string, depth int) error {
	isStruct := t != nil && t.Kind() == reflect.Struct
	if t != nil && !isStruct && t.Kind() != reflect.Map && t.Kind() != reflect.Interface {
		p.addf(place(at), "{…}", "%s", kindName(t))
		t = nil
	}
	seen := make(map[string]bool)
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return unexpected(err)
		}
		name := tok.(string)
		inner := strings.TrimPrefix(at+"."+name, ".")
		if seen[name] {
			p.addf(inner, name, "a name once")
		}
		seen[name] = true
		elem := t
		switch {
		case isStruct:
			fields := fieldsOf(t)
			var ok bool
			if elem, ok = fields[name]; !ok {
				var names []string
				for n := range fields {
					names = append(names, n)
				}
				slices.Sort(names)
				p.addf(inner, name, "%s", strings.Join(names, ", "))
			}
		case t != nil && t.Kind() == reflect.Map:
			elem = t.Elem()
		}
		if err := p.names(dec, elem, inner, depth+1); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return unexpected(err)
}

// fieldsOf returns the types of a struct's fields by their names in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		fields[f.Tag.Get("json")] = f.Type
	}
	return fields
}

func place(at string) string {
	if at == "" {
		return "the file"
	}
	return at
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	case reflect.Uint32:
		return "a whole number of 0 and above"
	}
	return "a whole number"
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
