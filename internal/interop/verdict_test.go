package main

import "testing"

func TestVerdict(t *testing.T) {
	number, zero, yes := int64s("7"), int64s(""), true
	for name, c := range map[string]struct {
		want, got []any
		says      string
	}{
		"equal":             {[]any{"a", "b"}, []any{"a", "b"}, "kept"},
		"made up":           {[]any{"a", ""}, []any{"a", "b"}, `made up: "b"`},
		"gone":              {[]any{"a", "b"}, []any{"", nil}, "lost"},
		"gone in a list":    {[]any{[]uint32{2, 0}}, []any{[]uint32{0, 0}}, "lost"},
		"gone once":         {[]any{"a", "b"}, []any{"a", ""}, `changed: "b" into nothing`},
		"other":             {[]any{"a"}, []any{"b"}, `changed: "a" into "b"`},
		"number as text":    {[]any{anyValue{IntValue: &number}}, []any{stringValue("7")}, "as text"},
		"zero as text":      {[]any{anyValue{IntValue: &zero}, anyValue{BoolValue: &yes}}, []any{stringValue("0"), stringValue("true")}, "as text"},
		"wrong as text":     {[]any{anyValue{IntValue: &number}}, []any{stringValue("8")}, `changed: {"intValue":"7"} into {"stringValue":"8"}`},
		"rounded":           {[]any{"1790000000123456789"}, []any{"1790000000123457000"}, "to the µs"},
		"rounded in a list": {[]any{[]string{"1790000000123456789"}}, []any{[]string{"1790000000123456000"}}, "to the µs"},
		"2 µs off":          {[]any{"1790000000123456789"}, []any{"1790000000123459000"}, `changed: "1790000000123456789" into "1790000000123459000"`},
		"lower case":        {[]any{"GET /A"}, []any{"get /a"}, "in lower case"},
	} {
		if got := verdict(c.want, c.got); got != c.says {
			t.Errorf("%s: verdict = %s, want %s", name, got, c.says)
		}
	}
}
