// SPDX-License-Identifier: Apache-2.0

//go:build bench

package startup

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/kettle/attest/runner/channel"
)

// rounds is how often each machine is started; KETTLE_BENCH_ROUNDS says otherwise.
const rounds = "15"

// goal is how long the image's machine may take as a multiple of the other one's time.
const goal = 1.10

// TestBench starts both machines in turn, the order changing from round to round, and says the median of the ratios with its
// interval, and the medians of each one's phases.
func TestBench(t *testing.T) {
	many, err := strconv.Atoi(cmp.Or(os.Getenv("KETTLE_BENCH_ROUNDS"), rounds))
	must(t, err)
	w := newWorld(t)
	var ratios []float64
	var kinds [2]kind
	for round := range many {
		var took [2]time.Duration
		for _, which := range []int{round % 2, 1 - round%2} {
			folder, prefix := t.TempDir(), fmt.Sprintf("kettle-%015x%x", round, which)
			c := w.machine(folder)
			if which == 1 {
				c = w.without(t, folder, prefix)
			}
			var phases []channel.Phase
			took[which], phases = w.start(t, c, prefix)
			kinds[which].add(took[which], phases)
		}
		ratios = append(ratios, took[0].Seconds()/took[1].Seconds())
		t.Logf("round %d: %.2f s with kettled, %.2f s without: %.2f", round+1, took[0].Seconds(), took[1].Seconds(), ratios[round])
	}
	slices.Sort(ratios)
	low, high := interval(many)
	t.Logf("start to listening, with over without, of %d rounds: median %.2f, 95%% interval %.2f to %.2f; goal %.2f",
		many, median(ratios), ratios[low], ratios[high], goal)
	t.Logf("with kettled\n%s", &kinds[0])
	t.Logf("without\n%s", &kinds[1])
}

// kind is what was measured of one kind of machine.
type kind struct {
	took   []float64
	names  []string
	phases map[string][]float64
}

func (k *kind) add(took time.Duration, phases []channel.Phase) {
	if k.phases == nil {
		k.phases = map[string][]float64{}
	}
	k.took = append(k.took, took.Seconds())
	for _, p := range phases {
		if k.phases[p.Name] == nil {
			k.names = append(k.names, p.Name)
		}
		k.phases[p.Name] = append(k.phases[p.Name], p.Elapsed.Seconds())
	}
}

// String is a line for each phase: the median of the guest's clock. The last line is the host's clock.
func (k *kind) String() string {
	var text string
	for _, name := range k.names {
		text += fmt.Sprintf("  %-20s %6.2f s\n", name, median(k.phases[name]))
	}
	return text + fmt.Sprintf("  %-20s %6.2f s after the start of QEMU\n", "has its session", median(k.took))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// interval gives the places, among n sorted values, of the ends of the interval that holds the median of what they are drawn
// from with a probability of 95 % at least: the binomial distribution of how many lie below it. Few values have only the whole
// range.
func interval(n int) (low, high int) {
	below, term := 0.0, 1.0
	for range n {
		term /= 2
	}
	for k := 0; k < n/2; k++ {
		if below += term; below > 0.025 {
			return max(k-1, 0), n - 1 - max(k-1, 0)
		}
		term *= float64(n-k) / float64(k+1)
	}
	return 0, n - 1
}
