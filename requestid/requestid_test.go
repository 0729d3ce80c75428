package requestid

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestNew(t *testing.T) { // RID-1
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	const n = 10_000
	seen := make(map[ID]bool, n)
	var digits [uuidLen][256]int
	for range n {
		id := New()
		if !form.MatchString(string(id)) {
			t.Fatalf("New() = %q, want %v", id, form)
		}
		if seen[id] {
			t.Fatalf("New() = %q a second time", id)
		}
		seen[id] = true
		for i := range len(id) {
			digits[i][id[i]]++
		}
	}
	// Each free position holds every digit about n/16 times: within six standard
	// deviations (24 each), so this fails less than once in a million runs.
	for i, counts := range digits {
		if i == 8 || i == 13 || i == 14 || i == 18 || i == 19 || i == 23 {
			continue
		}
		for _, d := range []byte("0123456789abcdef") {
			if c := counts[d]; c < n/16-150 || c > n/16+150 {
				t.Errorf("New(): digit %c stands %d times at %d in %d ids, want about %d", d, c, i, n, n/16)
			}
		}
	}
	for _, d := range []byte("89ab") {
		if c := digits[19][d]; c < n/4-270 || c > n/4+270 {
			t.Errorf("New(): variant digit %c stands %d times in %d ids, want about %d", d, c, n, n/4)
		}
	}
}

func TestFormat(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		hi, lo := r.Uint64(), r.Uint64()
		if i%3 == 0 { // every nibble value meets every place
			hi, lo = uint64(i)*0x1111111111111111, ^uint64(i)*0x1111111111111111
		}
		want := fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
		if got := format(hi, lo); string(got) != want {
			t.Fatalf("format(%#x, %#x) = %q, want %q", hi, lo, got, want)
		}
	}
}

func TestFromUUID(t *testing.T) {
	for range 100 {
		u := uuid.New()
		if got := FromUUID(u); string(got) != u.String() {
			t.Errorf("FromUUID(%v) = %q", u, got)
		}
		if back, ok := FromUUID(u).UUID(); !ok || back != u {
			t.Errorf("FromUUID(%v).UUID() = %v, %v", u, back, ok)
		}
	}
	// Version 7 is kept as it is, and its number is the clock's.
	v7 := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	if got := FromUUID(v7); got != "01890a5d-ac96-774b-bcce-b302099a8057" {
		t.Errorf("FromUUID(%v) = %q", v7, got)
	}
	a, _ := uuid.NewV7()
	b, _ := uuid.NewV7()
	na, _ := FromUUID(a).Number()
	nb, _ := FromUUID(b).Number()
	if nb-na > 1 { // 1 where the two calls lie on both sides of a step of 65 s
		t.Errorf("FromUUID of two version 7 UUIDs made together: numbers %d and %d, documented as the same", na, nb)
	}
}

func TestParse(t *testing.T) {
	for _, s := range []string{
		"125a4afb-6f55-44ba-ad80-413f09f48a28", // UUID
		"125A4AFB-6F55-44BA-AD80-413F09F48A28",
		"4bf92f3577b34da6a3ce929d0e0e4736",    // trace id
		"01ARZ3NDEKTSV4RRFFQ69G5FAV",          // ULID
		"0ujtsYcgvSTl8PAuAdqWYSMnLOv",         // KSUID
		"1-5759e988-bd862e3fe1be46a994272793", // X-Ray
		"Zm9vYmFyLw+/==",                      // base64
		"my-request-id", "a", ".", "_", "~", "+", "/", "=", "-",
		strings.Repeat("a", MaxLen),
	} {
		if got, err := Parse(s); err != nil || string(got) != s {
			t.Errorf("Parse(%q) = %q, %v", s, got, err)
		}
	}
	for _, c := range []struct {
		in     string
		offset int
	}{
		{"", 0},
		{" ", 0},
		{"a b", 1},
		{"a,b", 1}, // O-4: two lines
		{"abc\r\nSet-Cookie: x", 3},
		{"abc\x00", 3},
		{"\x7f", 0},
		{"ab\xff", 2},
		{"aü", 1},
		{`a"b`, 1},
		{"<script>", 0},
		{"a;b", 1},
		{"{125a4afb-6f55-44ba-ad80-413f09f48a28}", 0},
		{strings.Repeat("a", MaxLen+1), MaxLen},
		{strings.Repeat("\n", 1<<20), MaxLen},
	} {
		got, err := Parse(c.in)
		var pe *ParseError
		if got != "" || !errors.As(err, &pe) || pe.Offset != c.offset || pe.Value != c.in {
			t.Errorf("Parse(%.40q) = %q, %v, want a *ParseError at %d", c.in, got, err, c.offset)
		}
	}
	// The alphabet as documented, and nothing else.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"
	for c := range 256 {
		s := string([]byte{byte(c)})
		if _, err := Parse(s); (err == nil) != strings.Contains(alphabet, s) {
			t.Errorf("Parse(%q) error = %v", s, err)
		}
	}
}

func TestParseErrorText(t *testing.T) {
	for _, c := range []struct {
		err  ParseError
		want string
	}{
		{ParseError{}, "requestid: an id is 1 to 128 bytes, got none"},
		{ParseError{strings.Repeat("x", 300), 128}, "requestid: an id is 1 to 128 bytes, got 300"},
		{ParseError{"a\nb", 1}, `requestid: byte 1 of "a\nb" is "\n", allowed are A-Z a-z 0-9 . _ ~ + / = -`},
		{ParseError{"ab\xff", 2}, `requestid: byte 2 of "ab\xff" is "\xff", allowed are A-Z a-z 0-9 . _ ~ + / = -`},
		{ParseError{"ab", 7}, `requestid: bad id "ab"`},
		{ParseError{"ab", -1}, `requestid: bad id "ab"`},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%#v.Error() = %q, want %q", c.err, got, c.want)
		}
	}
	_, err := Parse(strings.Repeat("\x00", MaxLen))
	if n := len(err.Error()); n > 4*MaxLen+100 {
		t.Errorf("Parse of %d NULs: error of %d bytes", MaxLen, n)
	}
}

func TestUUID(t *testing.T) {
	want := uuid.MustParse("125a4afb-6f55-44ba-ad80-413f09f48a28")
	for _, id := range []ID{
		"125a4afb-6f55-44ba-ad80-413f09f48a28",
		"125a4afb-6f55-94ba-ad80-413f09f48a28",
		"125a4afb-6f55-a4ba-ad80-413f09f48a28",
		"125a4afb-6f55-b4ba-ad80-413f09f48a28",
		"125A4AFB-6F55-B4BA-AD80-413F09F48A28",
		"125a4afb-6f55-74ba-ad80-413f09f48a28", // RID-7
	} {
		if got, ok := id.UUID(); !ok || got != want {
			t.Errorf("%q.UUID() = %v, %v, want %v", id, got, ok, want)
		}
	}
	for _, id := range []ID{
		"", "my-request-id",
		"125a4afb6f5544baad80413f09f48a28",
		"{125a4afb-6f55-44ba-ad80-413f09f48a28}",
		"urn:uuid:125a4afb-6f55-44ba-ad80-413f09f48a28",
		"125a4afb-6f55-44ba-ad80-413f09f48a2",
		"125a4afb-6f55-44ba-ad80-413f09f48a2g",
		"125a4afb_6f55-44ba-ad80-413f09f48a28",
		"125a4afb-6f55-z4ba-ad80-413f09f48a28",
	} {
		if got, ok := id.UUID(); ok || got != uuid.Nil {
			t.Errorf("%q.UUID() = %v, %v, want false", id, got, ok)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		rule string
		id   ID
		want uint32
		ok   bool
	}{
		{"RID-14", "ffffffff-0012-0110-00ff-0c00400600ff", 4294967295, true},
		{"RID-14", "FFFFFFFF", 4294967295, true},
		{"RID-14", "00000000-0000-0000-0000-000000000000", 0, true},
		{"RID-14", "0000000f-0000-0000-0000-00000000000a", 15, true},
		{"RID-14", "125a4afb", 0x125a4afb, true},
		{"RID-14", "125A4afbzzz", 0x125a4afb, true},
		{"RID-14", "fffffff", 0, false},
		{"RID-14", "fffffffz-0012-0110-00ff-0c00400600ff", 0, false},
		{"RID-14", "", 0, false},
		{"RID-15", "4bf92f3577b34da6a3ce929d0e0e4736", 0x4bf92f35, true},
		{"RID-15", "01ARZ3NDEKTSV4RRFFQ69G5FAV", 0, false},
		{"RID-15", "0ujtsYcgvSTl8PAuAdqWYSMnLOv", 0, false},
		{"RID-15", "my-request-id", 0, false},
		{"RID-15", "1-5759e988-bd862e3fe1be46a994272793", 0, false},
		{"RID-16", "-1aaaaaa-0012-0110-00ff-0c00400600ff", 0, false},
		{"RID-16", "+1aaaaaa-0012-0110-00ff-0c00400600ff", 0, false},
		{"RID-16", "0x1aaaaa-0012-0110-00ff-0c00400600ff", 0x1aaaaa, true},
		{"RID-16", "0X1AAAAA-0012-0110-00ff-0c00400600ff", 0x1aaaaa, true},
		{"RID-16 fewer than 8", "0x1aaaa", 0, false},
		{"RID-16 no digits", "0xzzzzzz", 0, false},
		{"RID-16 twice", "0x0x1aaa", 0, false},
		{"RID-16 not in front", "10x1aaaa", 0, false},
		{"RID-16", " 1aaaaaa", 0, false},
	} {
		if got, ok := c.id.Number(); got != c.want || ok != c.ok {
			t.Errorf("%s: %q.Number() = %d, %v, want %d, %v", c.rule, c.id, got, ok, c.want, c.ok)
		}
	}
}

func TestCanonicalAndEqual(t *testing.T) {
	for _, c := range []struct{ in, want ID }{
		{"125a4afb-6f55-44ba-ad80-413f09f48a28", "125a4afb-6f55-44ba-ad80-413f09f48a28"},
		{"125a4afb-6f55-94ba-ad80-413f09f48a28", "125a4afb-6f55-44ba-ad80-413f09f48a28"},
		{"125A4AFB-6F55-B4BA-AD80-413F09F48A28", "125a4afb-6f55-44ba-ad80-413f09f48a28"},
		{"125A4AFB-6F55-z4BA-AD80-413F09F48A28", "125a4afb-6f55-44ba-ad80-413f09f48a28"},
		{"125A4AFB", "125a4afb"},
		{"4BF92F3577B34DA6A3CE929D0E0E4736", "4bf92f3577b34da6a3ce929d0e0e4736"},
		{"01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, // case of a ULID stays
		{"my-Request-id", "my-Request-id"},
		{"Thirty-six.bytes.of.no.hex.AAAAAAAAA", "Thirty-six.byt4s.of.no.hex.AAAAAAAAA"}, // RID-10: no check of hex
		{"", ""},
	} {
		if got := c.in.Canonical(); got != c.want {
			t.Errorf("%q.Canonical() = %q, want %q", c.in, got, c.want)
		}
		if !Equal(c.in, c.want) || !Equal(c.want, c.in) {
			t.Errorf("Equal(%q, %q) = false", c.in, c.want)
		}
	}
	for _, c := range [][2]ID{
		{"125a4afb-6f55-44ba-ad80-413f09f48a28", "125a4afb-6f55-44ba-ad80-413f09f48a29"},
		{"125a4afb-6f55-44ba-ad80-413f09f48a28", "225a4afb-6f55-44ba-ad80-413f09f48a28"},
		{"my-Request-id", "my-request-id"},
		{"125a4afb", "125a4afbc"},
		{"", "a"},
		{"125a4afb6f5544baad80413f09f48a28", "125a4afb-6f55-44ba-ad80-413f09f48a28"},
	} {
		if Equal(c[0], c[1]) || Equal(c[1], c[0]) {
			t.Errorf("Equal(%q, %q) = true", c[0], c[1])
		}
	}
}

func TestAllocs(t *testing.T) {
	const id = ID("125a4afb-6f55-44ba-ad80-413f09f48a28")
	const other = ID("125A4AFB-6F55-94BA-AD80-413F09F48A28")
	for _, c := range []struct {
		name string
		want float64
		f    func()
	}{
		{"New", 1, func() { sinkID = New() }},
		{"FromUUID", 1, func() { sinkID = FromUUID(uuid.UUID{1}) }},
		{"Parse", 0, func() { sinkID, _ = Parse(string(id)) }},
		{"UUID", 0, func() { _, sinkBool = id.UUID() }},
		{"Number", 0, func() { _, sinkBool = id.Number() }},
		{"Reason", 0, func() { sinkBool = id.Reason() == Sampling }},
		{"WithReason, changed", 1, func() { sinkID = id.WithReason(Sampling) }},
		{"WithReason, same", 0, func() { sinkID = id.WithReason(NotTraceable) }},
		{"Canonical, same", 0, func() { sinkID = id.Canonical() }},
		{"Equal", 0, func() { sinkBool = Equal(id, other) }},
		{"Next, kept", 0, func() { sinkID, _ = Policy{}.Next(string(id), false) }},
		{"Next, made", 1, func() { sinkID, _ = Policy{}.Next("", false) }},
		{"Next, refused", 1, func() { sinkID, _ = Policy{}.Next("a b", false) }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got != c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
}

var (
	sinkID   ID
	sinkBool bool
)

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse(s)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) || id != "" {
				t.Fatalf("Parse(%q) = %q, %T", s, id, err)
			}
			switch {
			case s == "" && pe.Offset == 0:
			case len(s) > MaxLen && pe.Offset == MaxLen:
			case pe.Offset < len(s) && refused[s[pe.Offset]] != 0:
			default:
				t.Fatalf("Parse(%q): offset %d", s, pe.Offset)
			}
			if msg := pe.Error(); strings.ContainsAny(msg, "\r\n\x00") || len(msg) > 4*MaxLen+100 {
				t.Fatalf("Parse(%q): message %q", s, msg)
			}
		} else if string(id) != s || len(s) > MaxLen {
			t.Fatalf("Parse(%q) = %q", s, id)
		}
		laws(t, ID(s)) // ids with any bytes, too
	})
}

// laws checks what holds for every id, parsed or not.
func laws(t *testing.T, id ID) {
	t.Helper()
	c := id.Canonical()
	if c.Canonical() != c {
		t.Fatalf("%q.Canonical() = %q, whose own is %q", id, c, c.Canonical())
	}
	if !Equal(id, id) || !Equal(id, c) || !Equal(c, id) {
		t.Fatalf("%q is not Equal to itself and its Canonical %q", id, c)
	}
	if c.Reason() != NotTraceable {
		t.Fatalf("%q.Canonical().Reason() = %v", id, c.Reason())
	}
	n, ok := id.Number()
	for r := NotTraceable; r <= ClientForced; r++ {
		w := id.WithReason(r)
		if len(w) != len(id) {
			t.Fatalf("%q.WithReason(%v) = %q", id, r, w)
		}
		if len(id) == uuidLen && w.Reason() != r || len(id) != uuidLen && w != id {
			t.Fatalf("%q.WithReason(%v) = %q, reason %v", id, r, w, w.Reason())
		}
		if !Equal(id, w) || w.Canonical() != c {
			t.Fatalf("%q.WithReason(%v) = %q is another request", id, r, w)
		}
		if nw, okw := w.Number(); nw != n || okw != ok {
			t.Fatalf("%q.WithReason(%v): number %d, %v; was %d, %v", id, r, nw, okw, n, ok)
		}
	}
	if u, ok := id.UUID(); ok && FromUUID(u) != c {
		t.Fatalf("FromUUID of %q.UUID() = %q, want %q", id, FromUUID(u), c)
	}
	for _, p := range []Policy{{}, {External: PreserveOrGenerate}, {External: Preserve}, {AnyBytes: true}, {External: PreserveOrGenerate, AnyBytes: true}} {
		for _, edge := range []bool{false, true} {
			next, ch := p.Next(string(id), edge)
			_, err := Parse(string(next))
			if err != nil && !p.AnyBytes && next != "" {
				t.Fatalf("%+v.Next(%q, %v) = %q, %v", p, id, edge, next, ch)
			}
			if strings.ContainsAny(string(next), "\r\n\x00") {
				t.Fatalf("%+v.Next(%q, %v) = %q, %v", p, id, edge, next, ch)
			}
			if again, ch := p.Next(string(next), false); next != "" && (again != next || ch != Kept) {
				t.Fatalf("%+v.Next(%q, false) = %q, %v: the next hop changed it", p, next, again, ch)
			}
		}
	}
}

func BenchmarkNew(b *testing.B) {
	b.Run("meshtrace", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sinkID = New()
		}
	})
	b.Run("google", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sinkID = ID(uuid.NewString())
		}
	})
}

func BenchmarkNewParallel(b *testing.B) {
	b.Run("meshtrace", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = New()
			}
		})
	})
	b.Run("google", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = uuid.NewString()
			}
		})
	})
}

func BenchmarkNext(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sinkID, _ = Policy{}.Next("125a4afb-6f55-44ba-ad80-413f09f48a28", false)
	}
}

// TestParseEachByte puts each byte at each place of an id that is read 8 bytes at once.
func TestParseEachByte(t *testing.T) {
	for at := range 20 {
		for c := range 256 {
			b := []byte("abcdefgh-01234567XYZ")
			b[at] = byte(c)
			_, err := Parse(string(b))
			if wrong := strings.IndexByte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._~+/=-", byte(c)) < 0; (err != nil) != wrong {
				t.Errorf("Parse(%q): %v", b, err)
			}
			var pe *ParseError
			if errors.As(err, &pe) && pe.Offset != at {
				t.Errorf("Parse(%q): offset %d, want %d", b, pe.Offset, at)
			}
		}
	}
}
