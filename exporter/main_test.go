package exporter

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slack is added to every limit that is measured on real sockets: the machine may do
// other things, and what is looked for (a lost wake-up, a ping waited for) takes
// longer by far. The limits themselves are held in virtual time, in flow_test.go.
const slack = 8 * time.Second
