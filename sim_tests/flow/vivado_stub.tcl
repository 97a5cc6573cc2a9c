# tclsh vivado_stub.tcl SCRIPT : runs a Vivado script with a closed list of commands and none of Vivado.
#
# What it finds: commands that are not on the list, options a command does not have, files that are not there, ports, block-design
# cells and pins that are not there, stages out of order. What it does not know: everything else. Passing says nothing about timing,
# design rules, the parameters of vendor blocks or a bitstream.
# Exit status: 0 passed, 1 a fault in the design, 2 a command that is not on the list.

set commands 0
set stage none
set files {}
set constraints {}
set ports {}
set cells [dict create]
set top {}
set runs {}

proc fault {text} { puts stderr "fault: $text"; exit 1 }

# Splits ARGS into options and the rest. FLAGS take no value, VALUED take one.
proc options {command arguments flags valued} {
    upvar 1 option option rest rest
    set option [dict create]
    set rest {}
    for {set k 0} {$k < [llength $arguments]} {incr k} {
        set word [lindex $arguments $k]
        if {$word in $flags} {
            dict set option $word 1
        } elseif {$word in $valued} {
            dict set option $word [lindex $arguments [incr k]]
        } elseif {[string match -* $word] && ![string is double $word]} {
            fault "$command has no option $word"
        } else {
            lappend rest $word
        }
    }
    incr ::commands
}

proc need_files {names} {
    foreach name $names { if {![file exists $name]} { fault "no such file: $name" } }
}

proc module_ports {name} {
    foreach file $::files {
        set channel [open $file]; set text [read $channel]; close $channel
        if {[regexp "\\nmodule $name\\s*\\((.*?)\\nendmodule" "\n$text" whole]} {
            set found {}
            foreach {match direction port} [regexp -all -inline -line {^\s*(input|output)\s[^;,()]*?(\w+)\s*[,;]?$} $whole] { lappend found $port }
            return $found
        }
    }
    fault "no module $name in the sources"
}

proc create_project {args} {
    options create_project $args {-force} {-part}
    if {![dict exists $option -part] || [dict get $option -part] ne "xczu9eg-ffvb1156-2-e"} { fault "part is not xczu9eg-ffvb1156-2-e" }
    set ::runs {synth_1 impl_1}
}
proc add_files {args} {
    options add_files $args {-norecurse} {-fileset}
    foreach list $rest {
        need_files $list
        if {[dict exists $option -fileset]} { lappend ::constraints {*}$list } else { lappend ::files {*}$list }
    }
}
proc set_property {args} {
    options set_property $args {} {-dict -name -value -objects}
    if {[dict exists $option -dict]} {
        foreach {name value} [dict get $option -dict] {
            if {[regexp {PSU__USE__S_AXI_GP(\d)} $name match number] && $value} { lappend ::enabled [lindex {HPC0 HPC1 HP0 HP1 HP2 HP3} $number] }
            if {$name eq "CONFIG.NUM_SI"} { dict set ::slaves [lindex $rest 0] $value }
        }
        set given [dict get $option -dict]
        if {[dict exists $given CONFIG.CLKOUT2_REQUESTED_OUT_FREQ]} {
            foreach {name port} {FREQ OUT_FREQ PHASE PHASE} {
                foreach number {1 2} { set $name$number [dict get $given CONFIG.CLKOUT${number}_REQUESTED_$port] }
            }
            if {$FREQ2 != 2 * $FREQ1 || $PHASE1 != $PHASE2} { fault "the second clock is not twice the first, in phase" }
        }
    }
    if {[llength $rest] == 3 && [lindex $rest 0] eq "top"} {
        set ::top [lindex $rest 1]
        if {$::top ne "system_wrapper"} { set ::ports [module_ports $::top] }
    }
}
proc current_fileset {} { incr ::commands; return sources_1 }
proc current_project {} { incr ::commands; return project }
proc get_board_parts {args} { options get_board_parts $args {-quiet -latest_file_version} {}; return xilinx.com:zcu102:part0:3.4 }
proc get_files {args} { options get_files $args {} {}; return $rest }
proc get_runs {name} {
    incr ::commands
    if {$name ni $::runs} { fault "no run $name" }
    return $name
}
proc update_compile_order {args} { options update_compile_order $args {} {-fileset} }
proc create_clock {args} {
    options create_clock $args {} {-name -period}
    if {![dict exists $option -period] || [dict get $option -period] <= 0} { fault "create_clock without a period" }
    if {[llength [lindex $rest 0]] == 0} { fault "create_clock on nothing" }
}
proc get_ports {names} {
    incr ::commands
    foreach name $names { if {$name ni $::ports} { fault "no port $name on $::top" } }
    return $names
}
proc launch_runs {args} {
    options launch_runs $args {} {-to_step -jobs}
    if {$::top eq ""} { fault "no top" }
    set run [get_runs [lindex $rest 0]]
    if {$run eq "impl_1" && $::stage ni {synth_1 validated}} { fault "implementation before synthesis" }
    foreach file $::constraints { uplevel #0 [list source $file] }
    if {[dict exists $option -to_step] && [dict get $option -to_step] ni {route_design write_bitstream}} { fault "no step [dict get $option -to_step]" }
    set ::stage launched_$run
}
proc wait_on_run {run} {
    incr ::commands
    if {$::stage ne "launched_$run"} { fault "$run was not launched" }
    set ::stage $run
}
proc open_run {run} {
    incr ::commands
    if {$::stage ne $run} { fault "$run is not done" }
    set ::stage open
}
proc report {name arguments flags} {
    options $name $arguments $flags {-file}
    if {$::stage ne "open"} { fault "$name without an open run" }
    if {![file isdirectory [file dirname [dict get $option -file]]]} { fault "no folder for [dict get $option -file]" }
}
proc report_utilization {args} { report report_utilization $args {-hierarchical} }
proc report_timing_summary {args} { report report_timing_summary $args {} }
proc report_drc {args} { report report_drc $args {} }
proc write_checkpoint {args} { options write_checkpoint $args {-force} {}; if {$::stage ne "open"} { fault "nothing to write" } }
proc write_hw_platform {args} { options write_hw_platform $args {-fixed -include_bit -force} {}; if {$::stage ne "open"} { fault "nothing to write" } }

# Block design. Pins of vendor blocks that the script may use, as UG1085 and PG201, PG247, PG164 name them.
set vendor_pins [dict create \
    zynq_ultra_ps_e {M_AXI_HPM0_FPD S_AXI_HPC0_FPD S_AXI_HPC1_FPD S_AXI_HP0_FPD S_AXI_HP1_FPD S_AXI_HP2_FPD S_AXI_HP3_FPD maxihpm0_fpd_aclk
        saxihpc0_fpd_aclk saxihpc1_fpd_aclk saxihp0_fpd_aclk saxihp1_fpd_aclk saxihp2_fpd_aclk saxihp3_fpd_aclk pl_clk0 pl_resetn0 pl_ps_irq0} \
    proc_sys_reset {slowest_sync_clk ext_reset_in peripheral_aresetn dcm_locked} \
    clk_wiz {clk_in1 clk_out1 clk_out2 locked} \
    smartconnect {S00_AXI S01_AXI M00_AXI aclk aresetn}]
set driven {}
set buses {}
set kinds [dict create]
set enabled {}
set slaves [dict create]

proc create_bd_design {name} { incr ::commands }
proc create_bd_cell {args} {
    options create_bd_cell $args {} {-type -vlnv -reference}
    set name [lindex $rest 0]
    if {[dict exists $::cells $name]} { fault "two cells $name" }
    if {[dict get $option -type] eq "module"} {
        set pins {}
        foreach port [module_ports [dict get $option -reference]] {
            lappend pins $port
            if {[regexp {^([ms]_axi_[a-z]+(?:_[0-9]+)?)_} $port match bus] && $bus ni $pins} { lappend pins $bus; lappend ::buses $bus }
        }
    } else {
        set kind [lindex [split [dict get $option -vlnv] :] 2]
        if {![dict exists $::vendor_pins $kind]} { fault "unknown block $kind" }
        set pins [dict get $::vendor_pins $kind]
        dict set ::kinds $name $kind
    }
    dict set ::cells $name $pins
}
proc get_bd_cells {name} {
    incr ::commands
    if {![dict exists $::cells $name]} { fault "no cell $name" }
    return $name
}
proc get_bd_pins {path} {
    lassign [split $path /] cell pin
    get_bd_cells $cell
    if {$pin ni [dict get $::cells $cell]} { fault "no pin $path" }
    return $path
}
proc get_bd_intf_pins {path} { return [get_bd_pins $path] }
proc connect_bd_net {from to} {
    incr ::commands
    if {$to in $::driven} { fault "$to is driven twice" }
    lappend ::driven $to
}
proc connect_bd_intf_net {from to} {
    connect_bd_net $from $to
    lappend ::driven $from
}
proc apply_bd_automation {args} { options apply_bd_automation $args {} {-rule -config} }
proc assign_bd_address {} { incr ::commands }
proc validate_bd_design {} {
    incr ::commands
    set clocks {}
    foreach pin [dict get $::cells accelerator] { if {[regexp {^aclk} $pin]} { lappend clocks $pin } }
    foreach pin [concat $::buses $clocks aresetn] {
        if {"accelerator/$pin" ni $::driven} { fault "accelerator/$pin is not connected" }
    }
    foreach port {HPC0 HPC1 HP0 HP1 HP2 HP3} {
        set clock ps/saxi[string tolower $port]_fpd_aclk
        set used [expr {"ps/S_AXI_${port}_FPD" in $::driven}]
        if {$used && $port ni $::enabled} { fault "ps/S_AXI_${port}_FPD is used and not enabled" }
        if {$used && $clock ni $::driven} { fault "$clock is not connected" }
    }
    dict for {name kind} $::kinds {
        if {$kind eq "clk_wiz"} {
            foreach pin "$name/clk_in1 reset/dcm_locked" { if {$pin ni $::driven} { fault "$pin is not connected" } }
        }
        if {$kind ne "smartconnect"} { continue }
        foreach pin {aclk aresetn M00_AXI} { if {"$name/$pin" ni $::driven} { fault "$name/$pin is not connected" } }
        for {set k 0} {$k < [dict get $::slaves $name]} {incr k} {
            if {"$name/S0${k}_AXI" ni $::driven} { fault "$name/S0${k}_AXI is not connected" }
        }
    }
    set ::stage validated
}
proc save_bd_design {} { incr ::commands; if {$::stage ne "validated"} { fault "the design is not validated" } }
proc make_wrapper {args} { options make_wrapper $args {-top} {-files}; return [lindex $::files 0] }

proc unknown {args} {
    puts stderr "unknown Vivado command: [lindex $args 0]"
    exit 2
}

set script [lindex $argv 0]
source $script
if {$stage ne "open"} { fault "the script ends before its reports: $stage" }
puts "commands: $commands; last stage: $stage"
