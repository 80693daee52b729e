/*
 * Frees local APICs of the lab host that QEMU's emulation left blocked.
 *
 * Seen with QEMU 10.0.2 under software emulation with several vCPUs on few processors, while devices are
 * handed to nested guests (QEMU then rebuilds its memory map): now and then a write to a local APIC is lost.
 * If it was the end of the timer interrupt, vector 236 stays in service and blocks every device interrupt of
 * that CPU; if it was the timer's next count, the timer never fires again. The kernel then reports RCU
 * stalls, and disk I/O may hang.
 *
 * Both can be told for certain from a program in user space, which runs with interrupts enabled: no
 * interrupt can be in service, and the tick of a CPU that runs a program is never off for long. This program
 * visits every CPU in turn, ends what is stuck, restarts a dead timer, and says so in the kernel log.
 *
 * Where the stuck vector is that of an inter-processor interrupt (253 seen), an idle CPU cannot even be woken
 * to be visited: the visitor waits on it, until the kernel reports a stall and sends an NMI, which nothing
 * blocks. So a second process looks whether the visitor comes along, and has the kernel send NMIs when not.
 *
 * Needs /dev/mem on the local APIC page, hence `iomem=relaxed` on the kernel command line.
 * Usage: lapic_guard FIRST_CPU   (two copies with different first CPUs watch over each other's sleep)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define APIC_BASE 0xfee00000UL
#define APIC_EOI 0xb0
#define APIC_ISR 0x100
#define APIC_IRR 0x200
#define APIC_LVTT 0x320
#define APIC_LVT_MASKED (1U << 16)
#define APIC_TMICT 0x380
#define APIC_TMCCT 0x390
#define TIMER_VECTOR 236
#define DEAD_NS 50000000LL
#define PAUSE_NS 999000000L
#define PATIENCE 4 /* seconds without a visit; the kernel reports a stall after 21 */

static int on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof set, &set);
}

static volatile uint32_t *apic;
static int kernel_log;

static void tell(const char *what, int cpu, int vector)
{
	char line[96];
	int length = snprintf(line, sizeof line, "<5>lapic_guard: cpu %d: %s %d\n", cpu, what, vector);

	if (write(kernel_log, line, (size_t)length) < 0)
		perror("lapic_guard: kmsg");
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void end_stuck(int cpu)
{
	for (int word = 0; word < 8; word++) {
		uint32_t stuck = apic[(APIC_ISR + word * 0x10) / 4];

		if (stuck != 0) {
			apic[APIC_EOI / 4] = 0;
			tell("freed stuck vector", cpu, word * 32 + 31 - __builtin_clz(stuck));
		}
	}
}

static void restart_timer(int cpu)
{
	long long until = now_ns() + DEAD_NS;
	uint32_t pending;

	if (apic[APIC_LVTT / 4] & APIC_LVT_MASKED)
		return;
	while (apic[APIC_TMCCT / 4] == 0)
		if (now_ns() > until) {
			pending = apic[(APIC_IRR + TIMER_VECTOR / 32 * 0x10) / 4];
			if (pending & (1U << TIMER_VECTOR % 32))
				return;
			apic[APIC_TMICT / 4] = 1000;
			tell("restarted the timer, vector", cpu, TIMER_VECTOR);
			return;
		}
}

static const struct timespec pause_time = { 0, PAUSE_NS };

struct progress {
	volatile unsigned visits;
	volatile int cpu;
};

static void visit(struct progress *progress, int cpus, int home)
{
	for (;;) {
		for (int cpu = 0; cpu < cpus; cpu++) {
			progress->cpu = cpu;
			if (on_cpu(cpu) != 0)
				continue;
			end_stuck(cpu);
			restart_timer(cpu);
			progress->visits++;
		}
		on_cpu(home % cpus);
		nanosleep(&pause_time, NULL);
	}
}

/* NMIs to all CPUs, by the kernel's own "show backtrace of all active CPUs": one that sleeps wakes by it. */
static void wake_all(int cpu)
{
	int trigger = open("/proc/sysrq-trigger", O_WRONLY);

	if (trigger < 0 || write(trigger, "l", 1) < 0)
		perror("lapic_guard: sysrq-trigger");
	if (trigger >= 0)
		close(trigger);
	tell("was not reached, woken by NMI after seconds", cpu, PATIENCE);
}

/* Until the visitor ends. */
static void look_after(pid_t visitor, const struct progress *progress)
{
	unsigned seen = progress->visits;
	int quiet = 0;

	while (waitpid(visitor, NULL, WNOHANG) == 0) {
		nanosleep(&pause_time, NULL);
		quiet = progress->visits == seen ? quiet + 1 : 0;
		seen = progress->visits;
		if (quiet >= PATIENCE) {
			wake_all(progress->cpu);
			quiet = 0;
		}
	}
}

int main(int argc, char **argv)
{
	int home = argc > 1 ? atoi(argv[1]) : 0;
	int cpus = (int)sysconf(_SC_NPROCESSORS_CONF);
	int memory = open("/dev/mem", O_RDWR | O_SYNC);

	kernel_log = open("/dev/kmsg", O_WRONLY);
	if (memory < 0 || kernel_log < 0) {
		perror("lapic_guard");
		return 1;
	}
	apic = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, APIC_BASE);
	if (apic == MAP_FAILED) {
		perror("lapic_guard: mmap of the local APIC (is iomem=relaxed set?)");
		return 1;
	}
	struct progress *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED) {
		perror("lapic_guard: shared memory");
		return 1;
	}
	pid_t visitor = fork();
	if (visitor < 0) {
		perror("lapic_guard: fork");
		return 1;
	}
	if (visitor == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		visit(progress, cpus, home);
	}
	on_cpu((home + 2) % cpus);
	look_after(visitor, progress);
	return 1;
}
