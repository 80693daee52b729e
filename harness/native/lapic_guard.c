/*
 * Frees local APICs of the lab host that QEMU's emulation left blocked.
 *
 * Seen with QEMU 10.0.2, several vCPUs, software emulation, while a nested guest with a passed-through
 * device boots: now and then the emulated CPU acknowledges its timer interrupt (vector 236 goes to the
 * in-service register) and never runs the handler. Nothing ends that interrupt, and the CPU gets no timer
 * and no device interrupt any more; the kernel reports RCU stalls and disk I/O hangs.
 *
 * A program that reads its CPU's in-service registers from user space runs with interrupts enabled, so none
 * can be in service: a bit that is set there is stuck, for certain. This program visits every CPU in turn,
 * reads those registers, ends what is stuck (write to EOI) and says so in the kernel log.
 *
 * Needs /dev/mem on the local APIC page, hence `iomem=relaxed` on the kernel command line.
 * Usage: lapic_guard FIRST_CPU   (two copies with different first CPUs watch over each other's sleep)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define APIC_BASE 0xfee00000UL
#define APIC_EOI 0xb0
#define APIC_ISR 0x100
#define PAUSE_NS 999000000L

static int on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv)
{
	const struct timespec pause = { 0, PAUSE_NS };
	int home = argc > 1 ? atoi(argv[1]) : 0;
	int cpus = (int)sysconf(_SC_NPROCESSORS_CONF);
	int memory = open("/dev/mem", O_RDWR | O_SYNC);
	int log = open("/dev/kmsg", O_WRONLY);
	volatile uint32_t *apic;

	if (memory < 0 || log < 0) {
		perror("lapic_guard");
		return 1;
	}
	apic = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, APIC_BASE);
	if (apic == MAP_FAILED) {
		perror("lapic_guard: mmap of the local APIC (is iomem=relaxed set?)");
		return 1;
	}
	for (;;) {
		for (int cpu = 0; cpu < cpus; cpu++) {
			if (on_cpu(cpu) != 0)
				continue;
			for (int word = 0; word < 8; word++) {
				uint32_t stuck = apic[(APIC_ISR + word * 0x10) / 4];

				if (stuck != 0) {
					char line[96];
					int vector = word * 32 + 31 - __builtin_clz(stuck);
					int length = snprintf(line, sizeof line,
							      "<5>lapic_guard: cpu %d: freed stuck vector %d\n",
							      cpu, vector);

					apic[APIC_EOI / 4] = 0;
					if (write(log, line, (size_t)length) < 0)
						perror("lapic_guard: kmsg");
				}
			}
		}
		on_cpu(home % cpus);
		nanosleep(&pause, NULL);
	}
}
