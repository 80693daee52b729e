# All that Shakedown asks of a candidate host, in one round trip: WORK_DIR KERNEL_WORDS DEVICE_FILE...
# It only reads. It needs a POSIX shell, grep, head, od, df, date, tr, awk and dmesg; find, timeout, virsh
# and QEMU are used when they are there. Processes are dear on slow hosts, so one `grep -H` reads hundreds
# of kernel attributes, and directory links are followed with `cd -P`, which costs no process. The shell's
# own `read` takes one byte at a time, and some attributes (cpulist, sysctls) then end early: never use it
# here. Kernel attributes are at most a page long; what may be longer goes through `head -c`.
#
# Its frames (harness/scripts/prelude.sh) are called KIND NAME. Kinds:
#   G lines `PATH:LINE` of many files (a line break inside a file only yields another line of that file)
#   F file    L directory link and where it leads    D directory and the names in it    P it exists
#   C command's status and output    X bytes in hexadecimal, from `head FILE...`
# A part ends each section.
# The parsers lie beside this file; the lists of attributes are also in `ask.py`, and a test compares them.

system_files="/proc/sys/kernel/hostname /proc/sys/kernel/osrelease /proc/sys/kernel/arch /proc/sys/kernel/random/boot_id \
/proc/sys/kernel/numa_balancing /proc/uptime /etc/machine-id /sys/kernel/mm/ksm/run \
/sys/kernel/mm/transparent_hugepage/enabled"
dmi_attributes="sys_vendor product_name product_serial board_vendor board_name board_version bios_vendor \
bios_version bios_date"
cpu_lists="online offline possible present isolated nohz_full"
cpu_attributes="online topology/physical_package_id topology/core_id \
topology/core_cpus_list topology/thread_siblings_list"
node_lists="online has_cpu has_memory has_generic_initiator"
node_attributes="cpulist distance meminfo"
pci_attributes="vendor device class subsystem_vendor subsystem_device revision numa_node local_cpulist \
driver_override current_link_speed current_link_width max_link_speed max_link_width reset_method resource \
aer_dev_correctable aer_dev_nonfatal aer_dev_fatal aer_rootport_total_err_cor \
aer_rootport_total_err_nonfatal aer_rootport_total_err_fatal power_state d3cold_allowed power/control \
boot_vga sriov_totalvfs sriov_numvfs label"
pci_links="driver iommu_group physfn"
pci_marks="reset reset_method resource0_resize resource1_resize resource2_resize resource3_resize \
resource4_resize resource5_resize"

nl='
'

# put TITLE CONTENT: queue one frame, since there are hundreds, and each `printf` is a write.
put() {
    frames=$((frames + 1))
    # shellcheck disable=SC2154  # the prelude sets the nonce
    out="$out$nl$nonce $1$nl$2"
}

flush() {
    printf '%s' "$out"
    out=
}

end_section() {
    flush
    part "$1"
}

# batch LABEL FILE...: the lines of all readable files, each behind its path.
batch() {
    put "G $1" ""
    flush
    shift
    grep $text -s -H '' "$@" /dev/null
}

# under DIR NAME...: leave the paths DIR/NAME in $list.
under() {
    for name in $2; do list="$list $1/$name"; done
}

capped() {
    [ -r "$1" ] && [ -f "$1" ] || return 0
    put "F $1" "$(head -c "$2" "$1")"
}

link() {
    [ -d "$1" ] && cd -P "$1" && put "L $1" "$PWD"
    return 0
}

listing() {
    [ -d "$1" ] || return 0
    names=
    for entry in "$1"/*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        case $entry in *"$nl"*) continue ;; esac
        names="$names${entry##*/}$nl"
    done
    put "D $1" "$names"
}

present() {
    [ -e "$1" ] && put "P $1" ""
    return 0
}

# command_frame LABEL ARGV...: exit status and output, at most 20 s and 256 KiB.
command_frame() {
    label=$1
    shift
    body=$($limit "$@")
    status=$?
    [ ${#body} -le 262144 ] || body=$(printf '%s' "$body" | head -c 262144)
    put "C $label" "$status$nl$body"
}

system() {
    list=$system_files
    under /sys/class/dmi/id "$dmi_attributes"
    # shellcheck disable=SC2086  # lists are split on purpose: their names hold no blanks
    batch system $list /sys/bus/platform/devices/ipmi_bmc*/firmware_revision \
        /sys/devices/system/cpu/cpufreq/policy*/scaling_governor
    batch irq /proc/irq/*/smp_affinity_list
    capped /proc/cmdline 16384
    capped /etc/os-release 16384
    present /dev/kvm
    present /dev/iommu
    command_frame uname uname -m
    command_frame date date -u +%Y-%m-%dT%H:%M:%SZ
    where=$work_dir
    while [ ! -d "$where" ]; do
        case $where in */*) where=${where%/*} ;; *) where= ;; esac
        [ -n "$where" ] || where=/
    done
    command_frame "df $work_dir" df -P -k "$where"
    end_section system
}

cpus() {
    capped /proc/cpuinfo 8192 # the first CPU's stanza is enough
    list=
    under /sys/devices/system/cpu "$cpu_lists"
    for d in /sys/devices/system/cpu/cpu[0-9]*; do
        [ -d "$d" ] || continue
        put "P $d" ""
        under "$d" "$cpu_attributes"
    done
    # shellcheck disable=SC2086
    batch cpu $list
    end_section cpus
}

nodes() {
    list=
    under /sys/devices/system/node "$node_lists"
    for d in /sys/devices/system/node/node[0-9]*; do
        [ -d "$d" ] || continue
        put "P $d" ""
        under "$d" "$node_attributes"
        for h in "$d"/hugepages/hugepages-*; do under "$h" "nr_hugepages free_hugepages"; done
    done
    # shellcheck disable=SC2086
    batch node $list
    end_section nodes
}

# first_bytes LABEL COUNT FILE...: /dev/null makes `head` name even a single file.
first_bytes() {
    put "X $1" ""
    flush
    bytes=$2
    shift 2
    head -c "$bytes" "$@" /dev/null | od -An -v -tx1
}

pci() {
    listing /sys/bus/pci/devices
    list='' config='' n=0
    for d in /sys/bus/pci/devices/*; do
        [ -d "$d" ] || continue
        under "$d" "$pci_attributes"
        link "$d"
        for a in $pci_links; do link "$d/$a"; done
        for a in $pci_marks; do present "$d/$a"; done
        config="$config ${d##*/}/config"
        n=$((n + 1))
        # A command line holds about 2 MB at most: a hundred functions take 150 kB of it.
        # shellcheck disable=SC2086
        [ $((n % 100)) -ne 0 ] || { batch pci $list; list=; }
    done
    # shellcheck disable=SC2086
    batch pci $list
    # Configuration headers of all; all of it, and vital product data, of those that may be accelerators
    # (display controllers, accelerators, co-processors and functions that name no class).
    deep=
    for d in $(grep -l -s -E '^0x(03|12|00ff|0b40)' /sys/bus/pci/devices/*/class); do
        d=${d%/class}
        d=${d##*/}
        deep="$deep $d/config"
        [ -f "/sys/bus/pci/devices/$d/vpd" ] && deep="$deep $d/vpd"
    done
    if [ -n "$config" ] && cd /sys/bus/pci/devices; then
        # shellcheck disable=SC2086
        first_bytes header 64 $config
        # shellcheck disable=SC2086
        [ -z "$deep" ] || first_bytes deep 4096 $deep
    fi
    for d in /sys/bus/pci/devices/*; do present "$d"; done # those that did not go away meanwhile
    batch slots /sys/bus/pci/slots/*/address
    end_section pci
}

iommu() {
    listing /sys/class/iommu
    listing /sys/kernel/iommu_groups
    for g in /sys/kernel/iommu_groups/*; do listing "$g/devices"; done
    batch iommu /sys/kernel/iommu_groups/*/type /sys/module/vfio*/parameters/*
    listing /dev/vfio
    listing /dev/vfio/devices
    end_section iommu
}

processes() {
    present /proc/1
    for p in $(grep -l -s -E '^(qemu-system|qemu-kvm|kvm$)' /proc/[0-9]*/comm); do
        p=${p%/comm}
        # Arguments on lines of their own; a line break inside one becomes a question mark. Only what tells
        # which guest it is and which devices it has: a command line also holds keys and secrets of tenants.
        body=$($limit tr '\0\n' '\n?' <"$p/cmdline" | head -c 65536 | sed -n -e 1p -e '/^-*version$/p' \
            -e '/^-name$/{N;p;}' -e '/^-uuid$/{N;p;}' -e '/^-machine$/{N;p;}' -e '/^-M$/{N;p;}' \
            -e '/^-device$/{N;/vfio/p;}')
        [ -z "$body" ] || put "F $p/cmdline" "$body"
    done
    end_section processes
}

versions() {
    for q in qemu-system-x86_64 "qemu-system-$(uname -m)" qemu-kvm; do
        command -v "$q" >/dev/null || continue
        command_frame qemu "$q" --version
        break
    done
    if command -v virsh >/dev/null; then
        command_frame virsh virsh -r -q -c qemu:///system "list --all --uuid --name"
    fi
    for d in libvirtd virtqemud; do
        command -v "$d" >/dev/null || continue
        command_frame libvirt "$d" --version
        break
    done
    end_section versions
}

# Who has a GPU's or VFIO's device file open: /proc/PID/fd/N and the file. PATTERN...
holders() {
    for pattern in "$@"; do
        shift
        set -- "$@" -o -lname "$pattern"
    done
    command_frame holders find /proc/[0-9]*/fd -maxdepth 1 \
        '(' -lname '/dev/vfio/*' "$@" ')' -printf '%p %l\n'
}

# The first line tells whether the log still holds the boot; then what concerns passthrough: the first 400
# lines and the last 400. What programs wrote into it is left out (-k), and each line has its facility (-S, -x),
# where dmesg can do that: busybox's cannot. PATTERN...
kernel_log() {
    put "C dmesg" "0$nl$({ dmesg -kSx || dmesg; } | head -c 16777216 | awk -v kernel_words="$kernel_words" '
        NR == 1 { print substr($0, 1, 1000); next }
        tolower($0) ~ kernel_words {
            seen++
            if (seen <= 400) print substr($0, 1, 1000)
            else last[seen % 400] = substr($0, 1, 1000)
        }
        END { for (i = (seen > 800 ? seen - 399 : 401); i <= seen; i++) print last[i % 400] }')"
    put "C interrupts" "0$nl$(awk '
        /IR-IO-APIC|IR-PCI-MSI|IR-HPET/ { remapped++; next }
        /IO-APIC|PCI-MSI/ && !/ITS-/ { plain++ }
        END { print "remapped", remapped + 0; print "plain", plain + 0 }' /proc/interrupts)"
    holders "$@"
    end_section log
}

main() {
    work_dir=$1 kernel_words=$2 out='' limit='' text=''
    shift 2
    PATH=$PATH:/usr/libexec
    if command -v timeout >/dev/null; then limit="timeout 20"; fi
    if grep -q -a '' /proc/uptime; then text=-a; fi
    # The two slow parts run beside the rest; their output waits in pipes until its turn.
    { kernel_log "$@" </dev/null; } | {
        exec 3<&0
        { versions </dev/null; } | {
            { system; cpus; nodes; pci; iommu; processes; } </dev/null
            cat
        }
        cat <&3
    }
}

main "$@" 2>/dev/null
return 0
