package otlpwire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestReadJSON(t *testing.T) {
	const spans = `{"resourceSpans":[{"scopeSpans":[{"spans":[%]}]}]}`
	for name, tt := range map[string]struct{ in, want string }{ // want in the form of AppendJSON, which leaves zeros out
		"empty":             {`{}`, `{}`},
		"null is absent":    {`{"resourceSpans":null}`, `{}`},
		"unknown field":     {`{"a":[{}],"resourceSpans":[]}`, `{}`},
		"upper-case hex":    {`{"traceId":"4BF92F3577B34DA6A3CE929D0E0E4736"}`, `{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736"}`},
		"numbers, strings":  {`{"startTimeUnixNano":5,"endTimeUnixNano":"18446744073709551615","kind":2,"flags":257}`, `{"flags":257,"kind":2,"startTimeUnixNano":"5","endTimeUnixNano":"18446744073709551615"}`},
		"values":            {`{"attributes":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":"-1"},{"intValue":2},{"boolValue":false},{"doubleValue":"NaN"},{"doubleValue":1.5},{"bytesValue":"_-8"},{"stringValue":"\u00e9"},{}]}}}]}`, `{"attributes":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":"-1"},{"intValue":"2"},{"boolValue":false},{"doubleValue":"NaN"},{"doubleValue":1.5},{"bytesValue":"/+8="},{"stringValue":"é"},{}]}}}]}`},
		"space around":      {" {\n} ", `{}`},
		"a list is an id":   {`{"traceId":["00"]}`, ""},
		"half an id":        {`{"traceId":"4bf9"}`, ""},
		"no hex":            {`{"traceId":"zz"}`, ""},
		"number too large":  {`{"flags":4294967296}`, ""},
		"fraction":          {`{"kind":1.5}`, ""},
		"enum by its name":  {`{"kind":"SPAN_KIND_SERVER"}`, ""},
		"object for a list": {`{"attributes":{}}`, ""},
		"string for a list": {`{"resourceSpans":"x"}`, ""},
		"two values":        {`{}{}`, ""},
		"cut off":           {`{"resourceSpans":[`, ""},
		"not UTF-8":         {"{\"a\":\"\xff\"}", ""},
		"array":             {`[]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in, want := tt.in, tt.want
			if strings.HasPrefix(in, `{"`) && !strings.Contains(in, "resourceSpans") && !strings.Contains(in, `{"a"`) {
				in, want = strings.Replace(spans, "%", in, 1), strings.Replace(spans, "%", want, 1)
			}
			got, err := ReadJSON([]byte(in))
			if tt.want == "" {
				if !errors.As(err, new(*WireError)) {
					t.Errorf("ReadJSON(%s) = %x, %v, want a *WireError", in, got, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("ReadJSON(%s): %v", in, err)
			}
			if back, err := AppendJSON(nil, got); err != nil || string(back) != want {
				t.Errorf("ReadJSON(%s) holds %s, %v, want %s", in, back, err, want)
			}
		})
	}
}

func TestReadAnswersJSON(t *testing.T) {
	rejected, message, err := ReadResponseJSON([]byte(`{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}`))
	if rejected != 3 || message != "too old" || err != nil {
		t.Errorf("ReadResponseJSON = %d, %q, %v", rejected, message, err)
	}
	for _, in := range []string{"", " ", "{}", `{"partialSuccess":{}}`, `{"partialSuccess":null}`} {
		if rejected, message, err = ReadResponseJSON([]byte(in)); rejected != 0 || message != "" || err != nil {
			t.Errorf("ReadResponseJSON(%q) = %d, %q, %v", in, rejected, message, err)
		}
	}
	if _, _, err := ReadResponseJSON([]byte("<html>")); err == nil {
		t.Error("ReadResponseJSON takes a web page")
	}
	s, err := ReadStatusJSON([]byte(`{"code":3,"message":"no","details":[{"@type":"x/google.protobuf.Duration","value":"1s"}]}`))
	if s.Code != 3 || s.Message != "no" || err != nil {
		t.Errorf("ReadStatusJSON = %+v, %v", s, err)
	}
}

// What is read as JSON and written as JSON is the same again.
func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(`{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"kvlistValue":{"values":[{"key":"a"}]}}}]},"scopeSpans":[{"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","status":{"code":2}}]}]}]}`))
	f.Add([]byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"events":[{"timeUnixNano":"1"}],"links":[{"flags":1}]}]}]}]}`))
	f.Add([]byte(`{"partialSuccess":{"rejectedSpans":"3"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		ReadResponseJSON(in)
		ReadStatusJSON(in)
		wire, err := ReadJSON(in)
		if err != nil {
			if !errors.As(err, new(*WireError)) {
				t.Fatalf("ReadJSON: %T", err)
			}
			return
		}
		once, err := AppendJSON(nil, wire)
		if err != nil {
			t.Fatalf("AppendJSON refuses what ReadJSON made: %v", err)
		}
		again, err := ReadJSON(once)
		if err != nil {
			t.Fatalf("ReadJSON refuses what AppendJSON made: %v", err)
		}
		twice, err := AppendJSON(nil, again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
	})
}
