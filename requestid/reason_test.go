package requestid

import "testing"

func TestReason(t *testing.T) {
	for _, c := range []struct {
		rule string
		id   ID
		want Reason
	}{
		{"RID-9", "a121e9e1-feae-4136-9e0e-6fac343d56c9", NotTraceable},
		{"RID-9", "a121e9e1-feae-9136-9e0e-6fac343d56c9", Sampling},
		{"RID-9", "a121e9e1-feae-a136-9e0e-6fac343d56c9", ServiceForced},
		{"RID-9", "a121e9e1-feae-b136-9e0e-6fac343d56c9", ClientForced},
		{"RID-9", "a121e9e1-feae-A136-9e0e-6fac343d56c9", NotTraceable},
		{"RID-9", "a121e9e1-feae-B136-9e0e-6fac343d56c9", NotTraceable},
		{"RID-9", "a121e9e1-feae-7136-9e0e-6fac343d56c9", NotTraceable},
		{"RID-10", "a121e9e1-feae-b136-9e0e-6fac343d56c", NotTraceable},
		{"RID-10", "a121e9e1-feae-b136-9e0e-6fac343d56c99", NotTraceable},
		{"RID-10", "no.hex.at.all.b.no.hyphens.but36.AAA", ClientForced},
		{"RID-10", "no.hex.at.all.B.no.hyphens.but36.AAA", NotTraceable},
		{"RID-10", "bad", NotTraceable},
		{"RID-10", "", NotTraceable},
	} {
		if got := c.id.Reason(); got != c.want {
			t.Errorf("%s: %q.Reason() = %v, want %v", c.rule, c.id, got, c.want)
		}
	}
	// Every digit that is not 9, a or b.
	for d := range 256 {
		id := []byte("a121e9e1-feae-4136-9e0e-6fac343d56c9")
		id[14] = byte(d)
		if got := ID(id).Reason(); (got != NotTraceable) != (d == '9' || d == 'a' || d == 'b') {
			t.Errorf("RID-9: %q.Reason() = %v", id, got)
		}
	}
}

func TestWithReason(t *testing.T) {
	for _, c := range []struct {
		rule   string
		id     ID
		reason Reason
		want   ID
	}{
		{"RID-9", "a121e9e1-feae-4136-9e0e-6fac343d56c9", Sampling, "a121e9e1-feae-9136-9e0e-6fac343d56c9"},
		{"RID-9", "a121e9e1-feae-4136-9e0e-6fac343d56c9", ServiceForced, "a121e9e1-feae-a136-9e0e-6fac343d56c9"},
		{"RID-10", "a121e9e1-feae-4136-9e0e-6fac343d56c9", ClientForced, "a121e9e1-feae-b136-9e0e-6fac343d56c9"},
		{"RID-9", "a121e9e1-feae-b136-9e0e-6fac343d56c9", NotTraceable, "a121e9e1-feae-4136-9e0e-6fac343d56c9"},
		{"RID-7", "01890a5d-ac96-774b-bcce-b302099a8057", NotTraceable, "01890a5d-ac96-474b-bcce-b302099a8057"},
		{"RID-10", "no.hex.at.all..no.hyphens.but.36.AAA", Sampling, "no.hex.at.all.9no.hyphens.but.36.AAA"},
		{"RID-12", "125a4afb", Sampling, "125a4afb"},
		{"RID-12", "", Sampling, ""},
		{"RID-13", "a121e9e1-feae-4136-9e0e-6fac343d56c9", Reason(4), "a121e9e1-feae-4136-9e0e-6fac343d56c9"},
	} {
		if got := c.id.WithReason(c.reason); got != c.want {
			t.Errorf("%s: %q.WithReason(%v) = %q, want %q", c.rule, c.id, c.reason, got, c.want)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{NotTraceable.String(), "NotTraceable"},
		{Sampling.String(), "Sampling"},
		{ServiceForced.String(), "ServiceForced"},
		{ClientForced.String(), "ClientForced"},
		{Reason(9).String(), "Reason(9)"},
		{Generate.String(), "Generate"},
		{PreserveOrGenerate.String(), "PreserveOrGenerate"},
		{Preserve.String(), "Preserve"},
		{Disable.String(), "Disable"},
		{External(9).String(), "External(9)"},
		{PackAndSample.String(), "PackAndSample"},
		{Sample.String(), "Sample"},
		{Pack.String(), "Pack"},
		{Ignore.String(), "Ignore"},
		{Use(9).String(), "Use(9)"},
		{Kept.String(), "kept"},
		{Made.String(), "made"},
		{Replaced.String(), "replaced"},
		{Cleared.String(), "cleared"},
		{Change(9).String(), "Change(9)"},
	} {
		if c.got != c.want {
			t.Errorf("String() = %q, want %q", c.got, c.want)
		}
	}
}
