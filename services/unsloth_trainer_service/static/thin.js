// A curve of more points than a chart can show, as few as it can.

const EACH = 2; // of each column in each stretch: its lowest, and its highest

/** Keep at most so many points of {steps, …}: the lowest and highest of each stretch of steps. */
export function thin(curve, most) {
  const { steps, ...columns } = curve;
  const stretches = Math.floor((most - EACH) / (EACH * Object.keys(columns).length));
  const [first, span] = [steps[0], steps.at(-1) - steps[0] || 1];
  const kept = new Set([0, steps.length - 1]);
  for (const column of Object.values(columns)) {
    const [lowest, highest] = [new Map(), new Map()];
    steps.forEach((step, index) => {
      if (column[index] === null) return;
      const stretch = Math.floor(((step - first) / span) * (stretches - 1));
      if (!(column[lowest.get(stretch)] <= column[index])) lowest.set(stretch, index);
      if (!(column[highest.get(stretch)] >= column[index])) highest.set(stretch, index);
    });
    for (const index of [...lowest.values(), ...highest.values()]) kept.add(index);
  }
  const order = [...kept].sort((a, b) => a - b);
  for (const [name, column] of Object.entries(curve)) curve[name] = order.map((index) => column[index]);
}
