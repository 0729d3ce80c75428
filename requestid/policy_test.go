package requestid

import (
	"strings"
	"testing"
)

func TestPolicyNext(t *testing.T) {
	const (
		id     = "a121e9e1-feae-4136-9e0e-6fac343d56c9"
		marked = "a121e9e1-feae-b136-9e0e-6fac343d56c9"
		v7     = "01890a5d-ac96-774b-bcce-b302099a8057"
		v7as4  = "01890a5d-ac96-474b-bcce-b302099a8057"
		fresh  = "(fresh)"
	)
	long := strings.Repeat("a", MaxLen+1)
	gen, keep := Policy{}, Policy{External: PreserveOrGenerate}
	none, off := Policy{External: Preserve}, Policy{External: Disable}
	anyBytes := Policy{AnyBytes: true}
	for _, c := range []struct {
		rule   string
		p      Policy
		in     string
		edge   bool
		want   ID
		change Change
	}{
		{"RID-1", gen, "", false, fresh, Made},
		{"RID-1", gen, "", true, fresh, Made},
		{"RID-1", keep, "", true, fresh, Made},
		{"RID-2", keep, " \t", true, fresh, Made}, // O-5: a value of spaces is empty
		{"RID-3", gen, id, false, id, Kept},
		{"RID-3", gen, " " + id + "\t", false, id, Kept},
		{"RID-3", gen, marked, false, marked, Kept},
		{"RID-3", keep, marked, false, marked, Kept},
		{"RID-3", gen, v7, false, v7, Kept},
		{"RID-3", gen, "my-request-id", false, "my-request-id", Kept},
		{"RID-3", anyBytes, "a,b", false, "a,b", Kept}, // O-4
		{"RID-3", anyBytes, "ä b", false, "ä b", Kept},
		{"RID-3", anyBytes, long, false, ID(long), Kept},
		{"RID-3 departed from", gen, "a,b", false, fresh, Replaced},
		{"RID-3 departed from", gen, "<script>", false, fresh, Replaced},
		{"RID-3 departed from", gen, long, false, fresh, Replaced},
		{"RID-3 departed from", keep, "a b", true, fresh, Replaced},
		{"O-5", anyBytes, "a\r\nb", false, fresh, Replaced},
		{"O-5", anyBytes, "a\x00b", false, fresh, Replaced},
		{"O-5", anyBytes, "a\x7fb", false, fresh, Replaced},
		{"bound", anyBytes, strings.Repeat("a", 60<<10), false, ID(strings.Repeat("a", 60<<10)), Kept},
		{"bound", anyBytes, strings.Repeat("a", 60<<10+1), false, fresh, Replaced},
		{"RID-4", gen, id, true, fresh, Replaced},
		{"RID-4", anyBytes, "a,b", true, fresh, Replaced},
		{"RID-5", keep, marked, true, id, Cleared},
		{"RID-5", keep, id, true, id, Kept},
		{"RID-5", keep, marked[:35], true, ID(marked[:35]), Kept},
		{"RID-5", keep, "my-request-id", true, "my-request-id", Kept},
		{"RID-5", Policy{External: PreserveOrGenerate, Use: Pack}, marked, true, id, Cleared},
		{"RID-6", none, "", true, "", Kept},
		{"RID-6", none, marked, true, marked, Kept},
		{"RID-6", off, "", false, "", Kept},
		{"RID-6", off, marked, true, marked, Kept},
		{"RID-6", none, "a b", true, "", Replaced},
		{"RID-7", keep, v7, true, v7as4, Cleared},
		{"RID-7", Policy{External: PreserveOrGenerate, Use: Sample}, v7, true, v7, Kept},
		{"RID-7", Policy{External: PreserveOrGenerate, Use: Ignore}, marked, true, marked, Kept},
		{"RID-8", gen, "original", true, fresh, Replaced}, // peer 134.2.2.11
		{"RID-8", gen, "original_request_id", false, "original_request_id", Kept},
		{"RID-8", gen, "id", false, "id", Kept}, // external, but no edge request
	} {
		got, change := c.p.Next(c.in, c.edge)
		if change != c.change || c.want != fresh && got != c.want {
			t.Errorf("%s: %+v.Next(%.60q, %v) = %.60q, %v, want %.60q, %v", c.rule, c.p, c.in, c.edge, got, change, c.want, c.change)
		}
		if c.want != fresh {
			continue
		}
		if _, ok := got.UUID(); !ok || got.Reason() != NotTraceable || string(got) == c.in {
			t.Errorf("%s: %+v.Next(%.60q, %v) = %q, %v, want a new UUID", c.rule, c.p, c.in, c.edge, got, change)
		}
	}
}
