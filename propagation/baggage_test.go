package propagation

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
)

// entries writes b out decoded, sorted: "key=value;prop;prop=value".
func entries(b baggage.Baggage) []string {
	var out []string
	for _, m := range b.Members() {
		s := m.Key() + "=" + m.Value()
		for _, p := range m.Properties() {
			s += ";" + p.Key()
			if v, ok := p.Value(); ok {
				s += "=" + v
			}
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// texts returns the members of b as OpenTelemetry writes them, in order.
func texts(b baggage.Baggage) []string {
	var out []string
	for _, m := range b.Members() {
		out = append(out, m.String())
	}
	slices.Sort(out)
	return out
}

// numbered returns n members, "k000=v,k001=v,…".
func numbered(n int, value string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "k%03d=%s", i, value)
	}
	return b.String()
}

func TestParseBaggage(t *testing.T) {
	const odd = "\t \"';=asdf!@#$%^&*()"
	const oddEncoded = "%09%20%22%27%3B%3Dasdf%21%40%23%24%25%5E%26%2A%28%29"
	for _, tt := range []struct {
		name   string
		in     []string
		want   []string
		rule   string
		offset int
	}{
		// The cases of the specification's own suite, test/test_baggage.py.
		{name: "simple", in: []string{"SomeKey=SomeValue"}, want: []string{"SomeKey=SomeValue"}},
		{name: "multiple", in: []string{"SomeKey=SomeValue;SomeProp,SomeKey2=SomeValue2;ValueProp=PropVal"},
			want: []string{"SomeKey2=SomeValue2;ValueProp=PropVal", "SomeKey=SomeValue;SomeProp"}},
		{name: "multiple with OWS", in: []string{"SomeKey \t = \t SomeValue \t ; \t SomeProp \t , \t SomeKey2 \t = \t SomeValue2 \t ; \t ValueProp \t = \t PropVal"},
			want: []string{"SomeKey2=SomeValue2;ValueProp=PropVal", "SomeKey=SomeValue;SomeProp"}},
		{name: "multiple equals", in: []string{"SomeKey=SomeValue=equals"}, want: []string{"SomeKey=SomeValue=equals"}},
		{name: "percent-encoded", in: []string{"SomeKey=" + oddEncoded}, want: []string{"SomeKey=" + odd}},
		{name: "percent-encoded with OWS", in: []string{"SomeKey \t = \t " + oddEncoded + " \t "}, want: []string{"SomeKey=" + odd}},
		{name: "percent-encoded property", in: []string{"SomeKey=SomeValue;SomeProp=" + oddEncoded}, want: []string{"SomeKey=SomeValue;SomeProp=" + odd}},
		{name: "properties of one name", in: []string{"SomeKey=SomeValue;SomeProp;SomeProp=PropValue;SomeProp=Another"},
			want: []string{"SomeKey=SomeValue;SomeProp;SomeProp=PropValue;SomeProp=Another"}},
		{name: "a property without a value is not decoded", in: []string{"SomeKey=SomeValue;ValueProp%20%09%20%3D%20%09%20PropVal"},
			want: []string{"SomeKey=SomeValue;ValueProp%20%09%20%3D%20%09%20PropVal"}},

		{name: "none", in: []string{""}},
		{name: "several lines", in: []string{"a=1", "", "b=2,c=3"}, want: []string{"a=1", "b=2", "c=3"}},
		{name: "empty value", in: []string{"a=,b= ;p="}, want: []string{"a=", "b=;p="}},
		{name: "the last of one key counts", in: []string{"a=1,b=2,a=3", "b=4"}, want: []string{"a=3", "b=4"}},
		{name: "empty members", in: []string{"a=1,, ,b=2,"}, want: []string{"a=1", "b=2"}},
		{name: "empty properties", in: []string{"a=1;;p; ;"}, want: []string{"a=1;p"}},
		{name: "UTF-8", in: []string{"a=Am%C3%a9lie"}, want: []string{"a=Amélie"}},
		{name: "not UTF-8 becomes U+FFFD", in: []string{"a=x%ffy%c3"}, want: []string{"a=x\uFFFDy\uFFFD"}},
		{name: "U+FFFD itself", in: []string{"a=%ef%bf%bd"}, want: []string{"a=\uFFFD"}},
		{name: "control bytes", in: []string{"a=%0d%0aX-Evil:%201"}, want: []string{"a=\r\nX-Evil: 1"}},

		{name: "bad members go alone", in: []string{"a=1,b,c=3"}, want: []string{"a=1", "c=3"}, rule: ruleBaggageMember, offset: 5},
		{name: "no key", in: []string{"a=1,=x"}, want: []string{"a=1"}, rule: ruleBaggageKey, offset: 4},
		{name: "key with space", in: []string{"a b=1"}, rule: ruleBaggageKey, offset: 1},
		{name: "key with a separator", in: []string{"a=1, b(=1"}, want: []string{"a=1"}, rule: ruleBaggageKey, offset: 6},
		{name: "key not ASCII", in: []string{"é=1"}, rule: ruleBaggageKey, offset: 0},
		{name: "value with space", in: []string{"a=x y"}, rule: ruleBaggageValue, offset: 3},
		{name: "value with a quote", in: []string{`a="x"`}, rule: ruleBaggageValue, offset: 2},
		{name: "value not ASCII", in: []string{"a=é"}, rule: ruleBaggageValue, offset: 2},
		{name: "value with a control byte", in: []string{"a=x\x00"}, rule: ruleBaggageValue, offset: 3},
		{name: "percent alone", in: []string{"a=100%"}, rule: ruleBaggageValue, offset: 5},
		{name: "percent cut", in: []string{"a=%4,b=1"}, want: []string{"b=1"}, rule: ruleBaggageValue, offset: 2},
		{name: "percent not hex", in: []string{"a=%4g"}, rule: ruleBaggageValue, offset: 2},
		{name: "percent cut by a property", in: []string{"a=%4;b1"}, rule: ruleBaggageValue, offset: 2},
		{name: "property with a bad key", in: []string{"a=1;p(=1"}, rule: ruleBaggageKey, offset: 5},
		{name: "property with a bad value", in: []string{"a=1;p=%"}, rule: ruleBaggageValue, offset: 6},
		{name: "property without a key", in: []string{"a=1;=1"}, rule: ruleBaggageKey, offset: 4},
		{name: "the first fault is told", in: []string{"a=1", "b", "c"}, want: []string{"a=1"}, rule: ruleBaggageMember, offset: 1},

		{name: "64 members", in: []string{numbered(64, "v")}, want: strings.Split(numbered(64, "v"), ",")},
		{name: "65 members", in: []string{numbered(65, "v")}, want: strings.Split(numbered(64, "v"), ","), rule: ruleBaggageMembers, offset: 64 * 7},
		{name: "65 members over lines", in: []string{numbered(60, "v"), "a=1,b=2,c=3,d=4,e=5"},
			want: append([]string{"a=1", "b=2", "c=3", "d=4"}, strings.Split(numbered(60, "v"), ",")...), rule: ruleBaggageMembers, offset: 16},
		{name: "8192 bytes", in: []string{"a=" + strings.Repeat("x", 8190)}, want: []string{"a=" + strings.Repeat("x", 8190)}},
		{name: "8193 bytes", in: []string{"a=" + strings.Repeat("x", 8191)}, rule: ruleBaggageLen, offset: 8192},
		{name: "8193 bytes, the newest goes", in: []string{"a=1,b=" + strings.Repeat("x", 8183) + ",c=1"},
			want: []string{"a=1", "b=" + strings.Repeat("x", 8183)}, rule: ruleBaggageLen, offset: 8192},
		{name: "8192 bytes over lines", in: []string{"a=" + strings.Repeat("x", 8186), "b=1"},
			want: []string{"a=" + strings.Repeat("x", 8186), "b=1"}},
		{name: "8193 bytes over lines", in: []string{"a=" + strings.Repeat("x", 8187), "b=1"},
			want: []string{"a=" + strings.Repeat("x", 8187)}, rule: ruleBaggageLen, offset: 2},
		{name: "8192 bytes and an empty line", in: []string{"a=" + strings.Repeat("x", 8190), "", "b=1"},
			want: []string{"a=" + strings.Repeat("x", 8190)}, rule: ruleBaggageLen},
		{name: "bytes that grow", in: []string{"a=1,b=" + strings.Repeat("%ff", 1000) + ",c=3"}, want: []string{"a=1", "c=3"}, rule: ruleBaggageLen, offset: 6},
		{name: "members that grow", in: []string{"a=1,b=" + strings.Repeat("%ff", 500) + ",c=" + strings.Repeat("%ff", 500) + ",d=4"},
			want: []string{"a=1", "b=" + strings.Repeat("\uFFFD", 500)}, rule: ruleBaggageLen, offset: 6 + 1500 + 1},
		{name: "64 properties", in: []string{"a=1" + strings.Repeat(";p", 64)}, want: []string{"a=1" + strings.Repeat(";p", 64)}},
		{name: "65 properties", in: []string{"a=1" + strings.Repeat(";p", 65) + ",b=2"}, want: []string{"b=2"}, rule: ruleBaggageProperty, offset: 3 + 64*2 + 1},
		{name: "65 properties over members", in: []string{"a=1" + strings.Repeat(";p", 40), "b=2" + strings.Repeat(";p", 25) + ",c=3"},
			want: []string{"a=1" + strings.Repeat(";p", 40), "c=3"}, rule: ruleBaggageProperty, offset: 3 + 24*2 + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, f := parseBaggage(tt.in)
			wantFault(t, "parseBaggage", f.err(), "baggage", tt.rule, tt.offset)
			if got := entries(b); !slices.Equal(got, tt.want) {
				t.Errorf("parseBaggage(%.300q) = %.300q, want %.300q", tt.in, got, tt.want)
			}
		})
	}
}

// TestPlainBaggage: what is left to OpenTelemetry's parser is read as the rest is, and
// written as the rest is by OpenTelemetry.
func TestPlainBaggage(t *testing.T) {
	for _, tt := range []struct {
		in    string
		plain bool
	}{
		{"a=1", true},
		{"a=1,b=2, c=3,\td=4", true},
		{"a=1,a=2,b=3,a=4", true},
		{"a=,b==,c=x=y", true},
		{"a=%20,b=%ff,c=%c3%28%E2%82%AC,d=+", true},
		{"a=1;p;q=2;r=,b=2;p", true},
		{numbered(64, "v"), true},
		{"a=" + strings.Repeat("%ff", 170), true},
		{"a=" + strings.Repeat("v", 511), false},
		{numbered(65, "v"), false},
		{"a=1" + strings.Repeat(";p", 40) + ",b=2" + strings.Repeat(";p", 25), false},
		{"a=%2,b=2", true},
		{"a=1;p=%20", false},
		{"a=1; p", false},
		{"a=1;p ", false},
		{"a=1;;p", false},
		{"a=1;", false},
		{"a=1 ,b=2", false},
		{"a =1", false},
		{"a=1,,b=2", false},
		{"a=1,", false},
		{"a=1,b", false},
		{"=1", false},
		{"", false},
		{`a="1"`, false},
	} {
		if got := plainBaggage(tt.in); got != tt.plain {
			t.Errorf("plainBaggage(%q) = %v, want %v", tt.in, got, tt.plain)
		}
		lines := []string{tt.in}
		b, f := parseBaggage(lines)
		want, wantFault := readBaggage(lines)
		if f != wantFault || !slices.Equal(texts(b), texts(want)) {
			t.Errorf("parseBaggage(%q) = %q, %+v, want %q, %+v", tt.in, texts(b), f, texts(want), wantFault)
		}
	}
}

// bag returns baggage of raw keys and values, "key", "value", ….
func bag(t testing.TB, pairs ...string) baggage.Baggage {
	t.Helper()
	var b baggage.Baggage
	for i := 0; i < len(pairs); i += 2 {
		m, err := baggage.NewMemberRaw(pairs[i], pairs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if b, err = b.SetMember(m); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestBaggageValue(t *testing.T) {
	many := func(n int, value string) []string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("k%03d", i), value)
		}
		return pairs
	}
	for _, tt := range []struct {
		name string
		in   baggage.Baggage
		want string
	}{
		{"one", bag(t, "a", "1"), "a=1"},
		{"by key", bag(t, "c", "3", "a", "1", "b", "2"), "a=1,b=2,c=3"},
		{"control bytes and separators", bag(t, "a", "\r\nX-Evil: 1,2;3\\\"%\x7f"), "a=%0D%0AX-Evil:%201%2C2%3B3%5C%22%25%7F"},
		{"UTF-8", bag(t, "a", "Amélie"), "a=Am%C3%A9lie"},
		{"keys that are no tokens", bag(t, "é", "1", "a b", "2", "c\r\n", "3", "ok", "4"), "ok=4"},
		{"64 members", bag(t, many(64, "v")...), numbered(64, "v")},
		{"65 members", bag(t, many(65, "v")...), numbered(64, "v")},
		{"8192 bytes", bag(t, "a", strings.Repeat("x", 8190)), "a=" + strings.Repeat("x", 8190)},
		{"8193 bytes", bag(t, "a", strings.Repeat("x", 8191)), ""},
		{"one that never fits", bag(t, "a", strings.Repeat("\n", 4000), "b", "2"), "b=2"},
		{"the last does not fit", bag(t, "a", strings.Repeat("x", 5000), "b", strings.Repeat("y", 5000), "c", "3"),
			"a=" + strings.Repeat("x", 5000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := baggageValue(tt.in, nil); got != tt.want {
				t.Errorf("baggageValue = %.200q (%d bytes), want %.200q (%d bytes)", got, len(got), tt.want, len(tt.want))
			}
		})
	}
}

// TestBaggageNewestGo holds that what a request came with goes on before what was
// added to it.
func TestBaggageNewestGo(t *testing.T) {
	for name, cfg := range map[string]Config{"with ids": {}, "alone": {NoRequestID: true}} {
		p := mustNew(t, cfg)
		in := headerSet("baggage", "z=1,y=2", "x-request-id", requestUUID)
		ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(in))
		b := baggage.FromContext(ctx)
		for i := range 63 {
			m, err := baggage.NewMemberRaw(fmt.Sprintf("k%03d", i), "v")
			if err != nil {
				t.Fatal(err)
			}
			if b, err = b.SetMember(m); err != nil {
				t.Fatal(err)
			}
		}
		out := http.Header{}
		p.Inject(baggage.ContextWithBaggage(ctx, b), otelprop.HeaderCarrier(out))
		want := "y=2,z=1," + numbered(62, "v")
		if cfg.NoRequestID { // no state that could tell
			want = numbered(63, "v") + ",y=2"
		}
		if got := out.Get("baggage"); got != want {
			t.Errorf("%s: baggage goes out as %q, want %q", name, got, want)
		}
	}
}

func TestBaggageProperties(t *testing.T) {
	value, err := baggage.NewKeyValuePropertyRaw("p", "x y\r")
	if err != nil {
		t.Fatal(err)
	}
	empty, err := baggage.NewKeyValuePropertyRaw("q", "")
	if err != nil {
		t.Fatal(err)
	}
	alone, err := baggage.NewKeyProperty("r")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := baggage.NewKeyProperty("r\r\n")
	if err != nil {
		t.Fatal(err)
	}
	m, err := baggage.NewMemberRaw("a", "1", value, empty, bad, alone)
	if err != nil {
		t.Fatal(err)
	}
	b, err := baggage.New(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := baggageValue(b, nil), "a=1;p=x%20y%0D;q=;r"; got != want {
		t.Errorf("baggageValue = %q, want %q", got, want)
	}
}

// TestBaggageBytes holds the table against the grammar.
func TestBaggageBytes(t *testing.T) {
	for i := range 256 {
		c := byte(i)
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		token := alnum || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
		octet := c == 0x21 || 0x23 <= c && c <= 0x2b || 0x2d <= c && c <= 0x3a || 0x3c <= c && c <= 0x5b || 0x5d <= c && c <= 0x7e
		if got := baggageBytes[c]&tokenByte != 0; got != token {
			t.Errorf("byte %q is in a token: %v, want %v", c, got, token)
		}
		if got, want := baggageBytes[c]&octetByte != 0, octet && c != '%'; got != want {
			t.Errorf("byte %q stands in a value as it is: %v, want %v", c, got, want)
		}
	}
}
