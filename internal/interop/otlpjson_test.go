package main

import (
	"strings"
	"testing"
)

const spanJSON = `{"resourceSpans":[{"resource":{"attributes":[
	{"key":"service.name","value":{"stringValue":"route"}},
	{"key":"host.name","value":{"stringValue":"a"}}]},
	"scopeSpans":[{"scope":{"name":"meshtrace","version":"1"},"spans":[
	{"traceId":"5b8aa5a2d2c872e8321cf37308d69df2","spanId":"051581bf3cb55c13","parentSpanId":"","name":"GET /route","kind":2,
	 "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000001","flags":257,
	 "attributes":[{"key":"n","value":{"intValue":"0"}},{"key":"share","value":{"doubleValue":1}},
	  {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"x"},{"boolValue":false}]}}}],
	 "events":[{"timeUnixNano":"5","name":"retry"},{"timeUnixNano":"6","name":"done"}],
	 "status":{}}]}]}]}`

func TestSameInOtherWords(t *testing.T) {
	for name, other := range map[string]string{
		"itself":             spanJSON,
		"zero values absent": strings.NewReplacer(`"parentSpanId":"",`, ``, `,`+"\n\t "+`"status":{}`, ``).Replace(spanJSON),
		"zero values stated": strings.Replace(spanJSON, `"status":{}`, `"status":{"code":0,"message":""},"links":[],"droppedLinksCount":0,"traceState":""`, 1),
		"numbers unquoted":   strings.NewReplacer(`"1700000000000000000"`, `1700000000000000000`, `"0"`, `0`, `:1}`, `:1.0}`).Replace(spanJSON),
		"attributes in another order": strings.Replace(spanJSON,
			`{"key":"n","value":{"intValue":"0"}},{"key":"share","value":{"doubleValue":1}}`,
			`{"key":"share","value":{"doubleValue":1}},{"key":"n","value":{"intValue":"0"}}`, 1),
	} {
		if name != "itself" && other == spanJSON {
			t.Errorf("%s: the edit changed nothing", name)
		}
		if diff := compare(read(t, spanJSON), read(t, other)); len(diff) != 0 {
			t.Errorf("%s: compare says\n%s", name, strings.Join(diff, "\n"))
		}
	}
}

func TestGroupingDoesNotMatter(t *testing.T) {
	second := strings.Replace(spanJSON, `"051581bf3cb55c13"`, `"051581bf3cb55c14"`, 1)
	group := spanJSON[strings.Index(second, `[{"resource"`)+1 : len(spanJSON)-len(`]}`)]
	oneRequest := strings.Replace(second, `[{"resource"`, `[`+group+`,{"resource"`, 1)
	if diff := compare(read(t, spanJSON+"\n"+second), read(t, oneRequest)); len(diff) != 0 {
		t.Errorf("two requests and one with both groups differ:\n%s", strings.Join(diff, "\n"))
	}
}

func TestDifferenceFound(t *testing.T) {
	for name, edit := range map[string][2]string{
		"name":               {`"GET /route"`, `"GET /other"`},
		"kind":               {`"kind":2`, `"kind":3`},
		"flags":              {`"flags":257`, `"flags":1`},
		"a nanosecond":       {`1700000000000000001`, `1700000000000000002`},
		"attribute type":     {`{"intValue":"0"}`, `{"stringValue":"0"}`},
		"value without type": {`{"intValue":"0"}`, `{}`},
		"array order":        {`{"stringValue":"x"},{"boolValue":false}`, `{"boolValue":false},{"stringValue":"x"}`},
		"event order":        {`{"timeUnixNano":"5","name":"retry"},{"timeUnixNano":"6","name":"done"}`, `{"timeUnixNano":"6","name":"done"},{"timeUnixNano":"5","name":"retry"}`},
		"resource":           {`"stringValue":"route"`, `"stringValue":"driver"`},
		"scope":              {`"version":"1"`, `"version":"2"`},
		"status":             {`"status":{}`, `"status":{"code":2}`},
		"span id":            {`"051581bf3cb55c13"`, `"051581bf3cb55c14"`},
	} {
		other := strings.Replace(spanJSON, edit[0], edit[1], 1)
		if other == spanJSON {
			t.Errorf("%s: the edit changed nothing", name)
		}
		if diff := compare(read(t, spanJSON), read(t, other)); len(diff) == 0 {
			t.Errorf("%s: compare finds no difference", name)
		}
	}
	if diff := compare(read(t, spanJSON), read(t, spanJSON+spanJSON)); len(diff) != 1 {
		t.Errorf("a span written twice: compare finds %d differences, want 1", len(diff))
	}
	if diff := compare(read(t, spanJSON), nil); len(diff) != 1 {
		t.Errorf("nothing written: compare finds %d differences, want 1", len(diff))
	}
}

func TestUnknownFieldIsAnError(t *testing.T) {
	for _, in := range []string{
		strings.Replace(spanJSON, `"kind":2`, `"spanKind":2`, 1),
		strings.Replace(spanJSON, `"kind":2`, `"kind":"SPAN_KIND_SERVER"`, 1),
		spanJSON + "{",
		`[]`,
	} {
		if spans, err := readSpans([]byte(in)); err == nil {
			t.Errorf("readSpans of %.60q… = %d spans, want an error", in, len(spans))
		}
	}
}

func read(t *testing.T, s string) []flat {
	t.Helper()
	spans, err := readSpans([]byte(s))
	if err != nil {
		t.Fatalf("readSpans: %v", err)
	}
	return spans
}
