package w3ctest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/baggage"
)

// baggageRow is one request with baggage and what goes on of it. Beside that,
// [baggageFaults] holds for every call.
type baggageRow struct {
	test   string   // of W3C's model; "" is a row without one
	title  string   // of a row without a test
	clause string   // of W3C Baggage
	in     []string // header lines as they are sent
	adds   []string // list-members that the application puts in, as in a header
	want   []string // list-members that go on, as in a header, in any order; the application sees them too
	hidden bool     // the application sees more than goes on
}

func (r *baggageRow) name() string {
	if r.test != "" {
		return r.test
	}
	return r.title
}

// awkward is a value with bytes of every kind that must be encoded, and some that may.
const (
	awkward        = "\t \"a';b=c, d\\e@100%\u00e9\u20ac\U0001f600"
	awkwardEncoded = "%09%20%22a'%3Bb=c%2C%20d%5Ce%40100%25%C3%A9%e2%82%ac%F0%9F%98%80"
)

// entries returns list-members of n bytes each, made of their numbers.
func entries(first, last, n int) []string {
	var list []string
	for i := first; i <= last; i++ {
		key := fmt.Sprintf("k%03d=", i)
		list = append(list, key+strings.Repeat("v", n-len(key)))
	}
	return list
}

// baggageRows are the tests of W3C's model, sent through a service, then the further
// clauses.
func baggageRows() []baggageRow {
	joined := func(members []string) string { return "baggage: " + strings.Join(members, ",") }
	return []baggageRow{
		{test: "BaggageTest.test_ctor_default", clause: "Definition: no baggage is made up"},
		{test: "BaggageTest.test_parse_simple", clause: "Definition: list-member",
			in: []string{"baggage: Key=Value"}, want: []string{"Key=Value"}},
		{test: "BaggageTest.test_parse_multiple", clause: "Definition: baggage-string",
			in: []string{"baggage: Key=Value;Prop,Key2=Value2;Prop2=PropValue"}, want: []string{"Key=Value;Prop", "Key2=Value2;Prop2=PropValue"}},
		{test: "BaggageTest.test_parse_multiple_ows", clause: "Definition: OWS",
			in:   []string{"baggage: Key \t = \t Value \t ; \t Prop \t , \t Key2 \t = \t Value2 \t ; \t Prop2 \t = \t PropValue"},
			want: []string{"Key=Value;Prop", "Key2=Value2;Prop2=PropValue"}},
		{test: "BaggageTest.test_parse_multiple_kv_property", clause: "property",
			in: []string{"baggage: Key=Value;Prop=P,Key2=Value2;Prop2=P2"}, want: []string{"Key=Value;Prop=P", "Key2=Value2;Prop2=P2"}},
		{test: "BaggageTest.test_parse_multiple_kv_property_ows", clause: "property: OWS",
			in:   []string{"baggage: Key \t = \t Value \t ; \t Prop=P \t , \t Key2 \t = \t Value2 \t ; \t Prop2 \t = \t P2"},
			want: []string{"Key=Value;Prop=P", "Key2=Value2;Prop2=P2"}},
		{test: "BaggageEntryTest.test_ctor_default", clause: "Mutating baggage: add a new key/value pair",
			adds: []string{"Key=Value"}, want: []string{"Key=Value"}},
		{test: "BaggageEntryTest.test_parse_simple", clause: "value: empty is allowed",
			in: []string{"baggage: Key="}, want: []string{"Key="}},
		{test: "BaggageEntryTest.test_parse_multiple_equals", clause: "value: may contain equal signs",
			in: []string{"baggage: Key=Value=equals==,Key2=="}, want: []string{"Key=Value=equals==", "Key2=="}},
		{test: "BaggageEntryTest.test_parse_percent_encoded", clause: "value: percent-encoding",
			in: []string{"baggage: Key=" + awkwardEncoded}, want: []string{"Key=" + awkwardEncoded}},
		{test: "BaggageEntryTest.test_parse_property", clause: "property",
			in: []string{"baggage: Key=Value;Prop"}, want: []string{"Key=Value;Prop"}},
		{test: "BaggageEntryTest.test_parse_multi_property", clause: "property",
			in: []string{"baggage: Key=Value;Prop;Prop2=P2"}, want: []string{"Key=Value;Prop;Prop2=P2"}},
		{test: "BaggageEntryTest.test_parse_multiple_properties_same_name", clause: "property: no meaning is given to keys",
			in: []string{"baggage: Key=Value;Prop;Prop=P;Prop=P2"}, want: []string{"Key=Value;Prop;Prop=P;Prop=P2"}},
		{test: "BaggageEntryTest.test_parse_kv_property", clause: "property",
			in: []string{"baggage: Key=Value;Prop=P"}, want: []string{"Key=Value;Prop=P"}},
		{test: "BaggageEntryTest.test_parse_simple_ows", clause: "key, value: OWS",
			in: []string{"baggage: Key \t = \t Value \t "}, want: []string{"Key=Value"}},
		{test: "BaggageEntryTest.test_parse_percent_encoded_ows", clause: "value: OWS around percent-encoding",
			in: []string{"baggage: Key \t = \t " + awkwardEncoded + " \t "}, want: []string{"Key=" + awkwardEncoded}},
		{test: "BaggageEntryTest.test_parse_property_ows", clause: "property: OWS",
			in: []string{"baggage: Key \t = \t Value \t ; \t Prop"}, want: []string{"Key=Value;Prop"}},
		{test: "BaggageEntryTest.test_parse_multi_property_ows", clause: "property: OWS",
			in: []string{"baggage: Key \t = \t Value \t ; \t Prop \t ; \t Prop2 \t = \t P2"}, want: []string{"Key=Value;Prop;Prop2=P2"}},
		{test: "BaggageEntryTest.test_parse_kv_property_ows", clause: "property: OWS",
			in: []string{"baggage: Key \t = \t Value \t ; \t Prop \t = \t P"}, want: []string{"Key=Value;Prop=P"}},
		{test: "BaggageEntryTest.test_parse_percent_encoded_property", clause: "property: percent-encoding of its value",
			in: []string{"baggage: Key=Value;Prop=" + awkwardEncoded}, want: []string{"Key=Value;Prop=" + awkwardEncoded}},
		{test: "BaggageEntryTest.test_parse_property_without_value_no_percent_decoding", clause: "key: a token, which is not decoded",
			in: []string{"baggage: Key=Value;Prop%20%3D%20P"}, want: []string{"Key=Value;Prop%20%3D%20P"}},
		{test: "LimitsTest.test_serialize_at_least_64", clause: "Limits: 64 list-members",
			in: []string{joined(entries(1, 64, 10))}, want: entries(1, 64, 10)},
		{test: "LimitsTest.test_serialize_long_entry", clause: "Limits: 8192 bytes",
			in: []string{joined(entries(1, 1, 8192))}, want: entries(1, 1, 8192)},
		{test: "LimitsTest.test_serialize_many_entries", clause: "Limits: 512 list-members in 8192 bytes, of which 64 must go on",
			in: []string{joined(append(entries(1, 511, 15), "k512=vvvvvvvvvvv"))}, want: entries(1, 64, 15)},

		{title: "64 members of 8192 bytes in all", clause: "Limits: both conditions at once",
			in: []string{joined(entries(1, 63, 127)), joined(entries(64, 64, 128))}, want: append(entries(1, 63, 127), entries(64, 64, 128)...)},
		{title: "65 members", clause: "Limits: the last goes",
			in: []string{joined(entries(1, 65, 10))}, want: entries(1, 64, 10)},
		{title: "65 members over three lines", clause: "Limits: they hold over all headers together",
			in:   []string{joined(entries(1, 30, 10)), joined(entries(31, 60, 10)), joined(entries(61, 65, 10))},
			want: entries(1, 64, 10)},
		{title: "64 members over 64 lines", clause: "Header Name: multiple headers",
			in: func() (lines []string) {
				for _, m := range entries(1, 64, 10) {
					lines = append(lines, "baggage: "+m)
				}
				return lines
			}(),
			want: entries(1, 64, 10)},
		{title: "8193 bytes in one member", clause: "Limits: no partial list-members",
			in: []string{joined(entries(1, 1, 8193))}},
		{title: "8192 bytes over two lines", clause: "Limits: they hold over all headers together",
			in: []string{joined(entries(1, 1, 4096)), joined(entries(2, 2, 4095))}, want: append(entries(1, 1, 4096), entries(2, 2, 4095)...)},
		{title: "8193 bytes over two lines", clause: "Limits: no partial list-members",
			in: []string{joined(entries(1, 1, 4096)), joined(entries(2, 2, 4096))}, want: entries(1, 1, 4096)},
		{title: "application adds the 64th", clause: "Limits: those added by the platform count",
			in: []string{joined(entries(1, 63, 10))}, adds: []string{"own=1"}, want: append(entries(1, 63, 10), "own=1")},
		{title: "application adds the 65th", clause: "Limits: which ones go is left open; here those added",
			in: []string{joined(entries(1, 64, 10))}, adds: []string{"a=1"}, want: entries(1, 64, 10), hidden: true},
		{title: "application adds beyond 8192 bytes", clause: "Limits: no partial list-members",
			in: []string{joined(entries(1, 2, 4000))}, adds: []string{"a=" + strings.Repeat("v", 190)}, want: entries(1, 2, 4000), hidden: true},

		{title: "example of three members", clause: "Example",
			in:   []string{"baggage: key1=value1;property1;property2, key2 = value2, key3=value3; propertyKey=propertyValue"},
			want: []string{"key1=value1;property1;property2", "key2=value2", "key3=value3;propertyKey=propertyValue"}},
		{title: "example over two lines", clause: "Examples of HTTP headers",
			in:   []string{"baggage: userId =   alice", "baggage: serverNode = DF%2028, isProduction = false"},
			want: []string{"userId=alice", "serverNode=DF%2028", "isProduction=false"}},
		{title: "example beyond ASCII", clause: "Examples of HTTP headers",
			in: []string{"baggage: userId=Am%C3%A9lie"}, want: []string{"userId=Am%C3%A9lie"}},
		{title: "header name in any case", clause: "Header Name",
			in: []string{"BAGGAGE: a=1", "bAgGaGe: b=2", "baggage: c=3"}, want: []string{"a=1", "b=2", "c=3"}},
		{title: "another header name", clause: "Header Name",
			in: []string{"baggages: a=1", "bag-gage: b=2"}},
		{title: "beside a traceparent", clause: "Header Name: of its own",
			in: []string{strings.ReplaceAll(caller, "{flags}", "01"), "baggage: a=1"}, want: []string{"a=1"}},
		{title: "beside a traceparent that is not sampled", clause: "Header Name: of its own",
			in: []string{strings.ReplaceAll(caller, "{flags}", "00"), "baggage: a=1"}, want: []string{"a=1"}},
		{title: "beside a traceparent that is refused", clause: "Header Name: of its own",
			in: []string{"traceparent: ff", "baggage: a=1"}, want: []string{"a=1"}},
		{title: "empty header", clause: "Definition", in: []string{"baggage:"}},
		{title: "empty list-members", clause: "Definition: a list, whose empty elements are ignored (RFC 7230, 7)",
			in: []string{"baggage: ,a=1,, \t ,b=2,", "baggage:", "baggage: c=3"}, want: []string{"a=1", "b=2", "c=3"}},
		{title: "keys differ by case", clause: "key",
			in: []string{"baggage: key=1,KEY=2,Key=3"}, want: []string{"key=1", "KEY=2", "Key=3"}},
		{title: "one key twice", clause: "Mutating baggage: duplicates may be removed; here the last stays",
			in: []string{"baggage: a=1,b=2", "baggage: a=3"}, want: []string{"a=3", "b=2"}},
		{title: "every byte of a key", clause: "key: a token of RFC 7230",
			in:   []string{"baggage: !#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ=1"},
			want: []string{"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ=1"}},
		{title: "every byte of a value", clause: "value: baggage-octet",
			in:   []string{"baggage: a=!#$&'()*+-./0123456789:<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"},
			want: []string{"a=!#$&'()*+-./0123456789:<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"}},
		{title: "encoded without need", clause: "value: may be percent-encoded",
			in: []string{"baggage: a=%61%2d%7E"}, want: []string{"a=a-~"}},
		{title: "encoded percent sign", clause: "value: is decoded once",
			in: []string{"baggage: a=%2541"}, want: []string{"a=%2541"}},
		{title: "encoded control bytes", clause: "value: goes out encoded",
			in: []string{"baggage: a=%0D%0Aevil:%201;p=%00%7F"}, want: []string{"a=%0D%0Aevil:%201;p=%00%7F"}},
		{title: "encoded bytes that are no UTF-8", clause: "value: they become U+FFFD",
			in: []string{"baggage: a=x%E9y,b=1;p=%FF"}, want: []string{"a=x%EF%BF%BDy", "b=1;p=%EF%BF%BD"}},
		{title: "percent sign alone", clause: "Mutating baggage: an offending list-member may be removed; here it alone",
			in: []string{"baggage: a=100%,b=%4,c=%zz,d=1;p=%,ok=1"}, want: []string{"ok=1"}},
		{title: "no equal sign", clause: "Definition: list-member",
			in: []string{"baggage: a,b;p=1,ok=1"}, want: []string{"ok=1"}},
		{title: "keys that are no token", clause: "key: a token of RFC 7230",
			in: []string{"baggage: =1,a b=1,a@b=1,(a)=1,a/b=1,\u00e9=1,\"a\"=1,ok=1"}, want: []string{"ok=1"}},
		{title: "values with other bytes", clause: "value: baggage-octet",
			in: []string{"baggage: a=b c,b=\"x\",c=a\\b,d=\u00e9,e=\xff,ok=1"}, want: []string{"ok=1"}},
		{title: "properties with other bytes", clause: "property",
			in: []string{"baggage: a=1;p q,b=1;=2,c=1;p=\"x\",d=1;p=\u00e9,ok=1;p="}, want: []string{"ok=1;p="}},
	}
}

func TestBaggage(t *testing.T) {
	app := &application{}
	h := newHarness(t, app.around)
	for _, row := range baggageRows() {
		t.Run(row.name(), func(t *testing.T) {
			want := sorted(row.want)
			app.adds = row.adds
			for i, call := range h.exchange(t, row.in, 2) {
				for _, fault := range baggageFaults(call) {
					t.Errorf("call %d (%s): sent %.300q: %s", i, row.clause, row.in, fault)
				}
				if diff := cmp.Diff(want, sorted(listMembers(values(call, "baggage")))); diff != "" {
					t.Errorf("call %d (%s): sent %.300q, members that went out (-want +got):\n%s", i, row.clause, row.in, diff)
				}
			}
			if diff := cmp.Diff(want, app.saw); diff != "" && !row.hidden {
				t.Errorf("%s: sent %.300q, members that the application saw (-want +got):\n%s", row.clause, row.in, diff)
			}
		})
	}
}

// TestBaggageCovers holds the table to the number of tests that W3C has for its model.
func TestBaggageCovers(t *testing.T) {
	const want = 24
	names := map[string]bool{}
	tests := 0
	for _, row := range baggageRows() {
		if names[row.name()] {
			t.Errorf("two rows are named %q", row.name())
		}
		names[row.name()] = true
		if row.test != "" {
			tests++
		}
		if row.clause == "" || (row.test == "") == (row.title == "") {
			t.Errorf("row %q lacks its name or clause", row.name())
		}
	}
	if tests != want {
		t.Errorf("the table restates %d tests of the model, want %d", tests, want)
	}
}

// application stands between the middleware and the service. It serves one request at
// a time.
type application struct {
	adds []string // list-members it puts into the baggage
	saw  []member // the baggage with those, sorted
}

func (a *application) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := baggage.FromContext(r.Context())
		for _, add := range a.adds {
			parsed, err := baggage.Parse(add)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			if b, err = b.SetMember(parsed.Members()[0]); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		a.saw = nil
		for _, m := range b.Members() {
			seen := member{Key: m.Key(), Value: m.Value()}
			for _, p := range m.Properties() {
				v, ok := p.Value()
				seen.Properties = append(seen.Properties, property{p.Key(), v, ok})
			}
			a.saw = append(a.saw, seen)
		}
		sortMembers(a.saw)
		next.ServeHTTP(w, r.WithContext(baggage.ContextWithBaggage(r.Context(), b)))
	})
}

// member is a list-member with its values decoded.
type member struct {
	Key, Value string
	Properties []property
}

type property struct {
	Key, Value string
	HasValue   bool
}

// sorted returns list-members decoded and by key.
func sorted(list []string) []member {
	var members []member
	for _, s := range list {
		parts := strings.Split(s, ";")
		key, value, _ := strings.Cut(parts[0], "=")
		m := member{Key: strings.Trim(key, " \t"), Value: decoded(value)}
		for _, p := range parts[1:] {
			key, value, ok := strings.Cut(p, "=")
			m.Properties = append(m.Properties, property{strings.Trim(key, " \t"), decoded(value), ok})
		}
		members = append(members, m)
	}
	sortMembers(members)
	return members
}

func decoded(value string) string {
	s, err := url.PathUnescape(strings.Trim(value, " \t"))
	if err != nil {
		return "undecodable: " + value
	}
	return s
}

func sortMembers(list []member) {
	slices.SortFunc(list, func(a, b member) int { return strings.Compare(a.Key, b.Key) })
}

// baggageForm is a list-member as it may go out.
var baggageForm = func() *regexp.Regexp {
	const (
		token = `[!#$%&'*+\-.^_|~0-9A-Za-z` + "`]+"
		value = `(?:[!#$&-+\--:<-\[\]-~]|%[0-9A-Fa-f]{2})*`
		ows   = `[ \t]*`
		pair  = token + ows + `=` + ows + value
	)
	return regexp.MustCompile(`^` + pair + `(?:` + ows + `;` + ows + `(?:` + pair + `|` + token + `))*$`)
}()

// baggageFaults returns what is wrong with the baggage of a call: it is within the
// limits and of the form that the specification defines.
func baggageFaults(fields []field) []string {
	var list []string
	lines := values(fields, "baggage")
	whole := strings.Join(lines, ",")
	members := listMembers(lines)
	if len(lines) > 0 && len(members) == 0 {
		list = append(list, "an empty baggage went out")
	}
	if len(whole) > 8192 || len(members) > 64 {
		list = append(list, fmt.Sprintf("%d list-members of %d bytes went out, want at most 64 of 8192", len(members), len(whole)))
	}
	for _, m := range members {
		if !baggageForm.MatchString(m) {
			list = append(list, fmt.Sprintf("list-member %.200q went out", m))
		}
	}
	return list
}
